"""What every part of a recipe is: strict, frozen models, and what a format's options are in short."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, JsonValue


class Strict(BaseModel):
    """A model without conversions, unknown keys or later changes."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True)
class Short:
    """The option that a word after a format's name means: gguf:Q4_K_M."""

    key: str
    default: str = ""  # what the name alone means; empty: the option is left out
    is_list: bool = False
    # Other options that a word may mean, by how it looks.
    others: Mapping[str, str] = field(default_factory=dict)

    def key_of(self, word: str) -> str:
        """Name the option that a word means."""
        return next((key for look, key in self.others.items() if re.fullmatch(look, word)), self.key)


class TargetOptions(Strict):
    """The options of one format; each format has its own class."""

    format_name: ClassVar[str]
    short: ClassVar[Short | None] = None

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name the artifacts asked for, each with the options that reach it; by default one, with all."""
        return {self.format_name: self.model_dump(mode="json")}

    @property
    def learns_by(self) -> str | None:
        """Name the option that needs the recipe's calibration text; "" where the target itself does."""
        return None

    def closer(self, target: str) -> str:  # noqa: ARG002 - a format knows its own
        """Say which options bring an artifact closer to the source; "" where none is known."""
        return ""

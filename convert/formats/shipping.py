"""How each format is shipped: where its files go in a repo, and which runtimes open it.

Every format's folder has a `shipping.py` with `SHIPPING`, and `guides/`: one Jinja template per runtime.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convert import formats
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue


@dataclass(frozen=True)
class Guide:
    """One runtime's section on a card: its template, and the families that it is shown for."""

    name: str  # FORMAT/NAME for FORMAT/guides/NAME.md.j2; it renders to nothing where it does not apply
    needs: tuple[str, ...] = ()  # must be in the family's RUNS_IN
    unless: str | None = None  # must not be


@dataclass(frozen=True)
class Xinference:
    """What Xinference calls the format, and the engine that reads it there."""

    format: str
    engine: str
    quantization: str  # with the artifact's label and options: Int{bits}
    needs: tuple[str, ...] = ()  # as a guide's
    names_file: bool = False  # whether it asks for the name of the one file


@dataclass(frozen=True)
class Shipping:
    """All that publishing knows of a format."""

    label: str  # as people write the format's name
    suffix: str  # of a repo's name, with the artifact's options: GPTQ-Int{bits}
    weights: str  # pattern of the files that hold the weights, with the artifact's label
    guides: tuple[Guide, ...]  # in the order in which people ask for them
    tags: tuple[str, ...] = ()  # on the Hub
    library: str = "transformers"  # as the Hub names the one that reads it
    is_quantized: bool = True
    folder: str = "{target}/"  # of an artifact's files in the repo, with its target and options
    documents: str = "{target}/"  # of its manifest, its report and its provenance
    goes_to_root: bool = True  # whether both lie at the root where the artifact is alone in its repo
    chat_template: str | None = "chat_template.jinja"  # the file with it; None: in the GGUF header
    favorite: str = ""  # the label that people expect to be preselected
    runs_in_ollama: bool = False  # the repo gets Ollama's files
    xinference: Xinference | None = None
    # By an artifact's option of that name, where another layout is shipped otherwise.
    layouts: Mapping[str, Shipping] = field(default_factory=dict)

    def folders(self, target: str, options: Mapping[str, JsonValue], *, is_alone: bool) -> tuple[str, str]:
        """Return where in the repo an artifact's files go, and where its documents."""
        if is_alone and self.goes_to_root:
            return "", ""
        values = {**options, "target": target}
        return self.folder.format(**values), self.documents.format(**values)

    def weight_pattern(self, label: str) -> re.Pattern[str]:
        """Return what the paths of an artifact's weights match."""
        return re.compile(self.weights.replace("{label}", re.escape(label)))


def shipping(format_name: str, options: Mapping[str, JsonValue] | None = None) -> Shipping:
    """Return how an artifact of a format is shipped, or refuse a format that is unknown."""
    names = formats.format_names()
    if format_name not in names:
        raise Failure(f"there is no format {format_name!r}", f"the formats are {', '.join(names)}")
    found: Shipping = formats.part_of(format_name, "shipping").SHIPPING
    return found.layouts.get(str((options or {}).get("layout")), found)

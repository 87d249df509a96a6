"""What a model can become: one module per format, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from convert.checkpoint import Checkpoint
    from convert.decoder import Decoder, Origin, Ref
    from convert.layout import Layout
    from convert.progress import Progress
    from convert.recipe import Recipe, TargetOptions
    from convert.tokenizer import Tokenizer


@dataclass(frozen=True)
class Deviation:
    """Something that comes out otherwise than the recipe or the source says."""

    subject: str
    wanted: str
    got: str
    why: str


@dataclass(frozen=True)
class Model:
    """What a format sees of a source: all of it but the weights."""

    title: str  # names files and the model itself: the repository's last part, or the recipe's name
    repo: str | None
    decoder: Decoder
    tokenizer: Tokenizer
    folder: Path
    card: Mapping[str, Any] = field(default_factory=dict)  # the front matter of the source's README.md
    generation: Mapping[str, Any] = field(default_factory=dict)  # its generation_config.json
    deviations: tuple[Deviation, ...] = ()  # of every artifact, whatever its format


@dataclass(frozen=True)
class Weights:
    """An open checkpoint, and where in it the canonical tensors lie."""

    checkpoint: Checkpoint
    origins: Mapping[Ref, Origin]


@dataclass(frozen=True)
class Planned:
    """An artifact, planned to the byte: its big files as layouts, its small ones whole."""

    target: str
    layouts: tuple[Layout, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    encodings: Mapping[str, str] = field(default_factory=dict)  # tensor -> type, for the manifest
    deviations: tuple[Deviation, ...] = ()
    cpu_s: float = 0.0  # an estimate: what encoding costs one core

    @property
    def size_bytes(self) -> int:
        return sum(layout.size_bytes for layout in self.layouts) + sum(map(len, self.files.values()))


class Format(Protocol):
    """What each module of this folder defines."""

    OPTIONS: type[TargetOptions]

    def targets(self, options: Any) -> tuple[str, ...]:
        """Name the artifacts that these options ask for, as `gguf-Q4_K_M`."""

    def target_options(self, options: Any, target: str) -> dict[str, JsonValue]:
        """Name the options that reach this one artifact."""

    def tools(self) -> dict[str, str]:
        """Name the tools, with versions, that can change the bytes."""

    def inputs(self, options: Any, recipe: Recipe) -> dict[str, str]:
        """Digest the files, besides the source's, that reach the bytes."""

    def prepare(self, model: Model, options: Any, recipe: Recipe) -> Any:
        """Compute once what all targets share and needs no weights."""

    def learn(
        self,
        prepared: Any,
        model: Model,
        options: Any,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Any:
        """Add what only the weights can tell; the same object where there is nothing to add."""

    def lay_out(self, model: Model, options: Any, target: str, prepared: Any) -> Planned:
        """Plan one artifact."""


def registry() -> dict[str, Format]:
    """Load every format there is."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    return {name: importlib.import_module(f"{__name__}.{name}") for name in names}


def option_models() -> dict[str, type[TargetOptions]]:
    """Give the recipe reader each format's options."""
    return {name: module.OPTIONS for name, module in registry().items()}

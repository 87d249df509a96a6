"""What a model can become: one module per format, found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from convert.calibration import Source
    from convert.checkpoint import Checkpoint
    from convert.model.decoder import Decoder, Origin, Ref
    from convert.progress import Progress
    from convert.recipe import Recipe, TargetOptions
    from convert.tokenizer import Tokenizer
    from convert.writer.layout import Layout


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
    left_out: tuple[Deviation, ...] = ()  # of those that do not ship the source's own config.json
    weight_bytes: int = 0  # of its files, here or not; 0 where nobody looked
    texts: Source | None = None  # what the recipe's calibration names, where a target learns from it


@dataclass(frozen=True)
class Weights:
    """An open checkpoint, and where in it the canonical tensors lie."""

    checkpoint: Checkpoint
    origins: Mapping[Ref, Origin]


@dataclass(frozen=True)
class Scratch:
    """A checkpoint that a tool is fed and nobody is given: laid out in the pass, or links to the source."""

    layouts: tuple[Layout, ...]
    files: Mapping[str, bytes]
    links: Mapping[str, Path]

    @property
    def size_bytes(self) -> int:
        return sum(layout.size_bytes for layout in self.layouts)


@dataclass(frozen=True)
class Workplace:
    """Where a tool works when the pass is over."""

    checkpoint: Path  # what `Scratch` became
    out: Path  # the artifact's folder, its small files in it already
    threads: int | None
    progress: Progress


@dataclass(frozen=True)
class Made:
    """What a tool says of its work, for the manifest."""

    encodings: Mapping[str, str]
    deviations: tuple[Deviation, ...] = ()
    notes: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """What a tool does after the pass to make the artifact's big files, and what it needs for that.

    The figures are estimates, above what was measured; what they come from stands where they are computed.
    """

    scratch: Scratch
    make: Callable[[Workplace], Made]
    path: str  # of the big file, for the plan
    size_bytes: int  # what it leaves
    spare_bytes: int  # of disk, while it works
    memory_bytes: int
    seconds: Callable[[int], float]  # with so many threads
    device: str  # where it will work, for the plan: "cpu" or "cuda"


@dataclass(frozen=True)
class Planned:
    """An artifact, planned to the byte: its big files as layouts, its small ones whole."""

    target: str
    layouts: tuple[Layout, ...]
    files: Mapping[str, bytes] = field(default_factory=dict)
    encodings: Mapping[str, str] = field(default_factory=dict)  # tensor -> type, for the manifest
    deviations: tuple[Deviation, ...] = ()
    keeps_config: bool = False  # whether it ships the source's own config.json
    cpu_s: float = 0.0  # an estimate: what encoding costs one core
    finish: Finish | None = None  # where a tool makes the big files, after the pass
    notes: Mapping[str, JsonValue] = field(default_factory=dict)  # for the manifest, beside the options

    @property
    def size_bytes(self) -> int:
        """What the artifact will weigh; where a tool makes it, nearly so."""
        laid_out = sum(layout.size_bytes for layout in self.layouts) + sum(map(len, self.files.values()))
        return laid_out + (self.finish.size_bytes if self.finish else 0)

    @property
    def disk_bytes(self) -> int:
        """What must be free while it is made."""
        if self.finish is None:
            return self.size_bytes
        return self.size_bytes + self.finish.scratch.size_bytes + self.finish.spare_bytes


def deviations(model: Model, planned: Planned) -> tuple[Deviation, ...]:
    """Say all that is otherwise with an artifact: what is so with every one of its kind, and its own."""
    left_out = () if planned.keeps_config else model.left_out
    return (*model.deviations, *left_out, *planned.deviations)


class Format(Protocol):
    """What each module of this folder is, or names as its `FORMAT`.

    A format is laid out: its big files are filled by the engine in the one pass over the source. What a tool
    makes of a whole checkpoint has no layouts of its own but a `Finish`: a scratch checkpoint that is filled
    in the same pass, and a step that runs after it, in turn with those of other targets.
    """

    @property
    def OPTIONS(self) -> type[TargetOptions]:  # noqa: N802 - a module's constant
        """What a recipe may say of it."""

    def targets(self, options: Any) -> tuple[str, ...]:
        """Name the artifacts that these options ask for, as `gguf-Q4_K_M`."""

    def target_options(self, options: Any, target: str) -> dict[str, JsonValue]:
        """Name the options that reach this one artifact."""

    def tools(self) -> dict[str, str]:
        """Name the tools, with versions, that can change the bytes."""

    def inputs(self, options: Any, recipe: Recipe) -> dict[str, str]:
        """Digest the files, besides the source's and the calibration text's, that reach the bytes."""

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
    modules = {name: importlib.import_module(f"{__name__}.{name}") for name in names}
    return {name: getattr(module, "FORMAT", module) for name, module in modules.items()}


def option_models() -> dict[str, type[TargetOptions]]:
    """Give the recipe reader each format's options."""
    return {name: format_.OPTIONS for name, format_ in registry().items()}

"""What every format is: a class with defaults, and the plan of an artifact that it makes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from convert.recipe import TargetOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from pydantic import JsonValue

    from convert.deviation import Deviation
    from convert.model.decoder import Decoder
    from convert.model.feature import Feature
    from convert.model.source import Model, Weights
    from convert.model.tensor import Ref
    from convert.progress import Progress
    from convert.recipe import Recipe
    from convert.writer.codecs import Codec
    from convert.writer.layout import Layout, Slot
    from convert.writer.speed import Speeds

Options = TypeVar("Options", bound=TargetOptions)
Shared = TypeVar("Shared")


@dataclass(frozen=True)
class Scratch:
    """A checkpoint for a tool to read: laid out in the pass, or links to the source; it is never shipped."""

    layouts: tuple[Layout, ...]
    files: Mapping[str, bytes]
    links: Mapping[str, Path]

    @property
    def size_bytes(self) -> int:
        return sum(layout.size_bytes for layout in self.layouts)


@dataclass(frozen=True)
class Workplace:
    """The folders and limits that a tool gets when the pass is over."""

    checkpoint: Path  # what `Scratch` became
    out: Path  # the artifact's folder, its small files in it already
    threads: int | None
    progress: Progress


@dataclass(frozen=True)
class Made:
    """A tool's account of its work, for the manifest."""

    encodings: Mapping[str, str]
    deviations: tuple[Deviation, ...] = ()
    notes: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """The step after the pass in which a tool makes an artifact's big files, and what it needs for that.

    The figures are estimates, above what was measured.
    """

    scratch: Scratch
    make: Callable[[Workplace], Made]
    path: str  # of the big file, for the plan
    size_bytes: int  # what it leaves
    spare_bytes: int  # of disk, while it works
    memory_bytes: int
    seconds: Callable[[int, Speeds], float]  # with so many threads
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
    kept: frozenset[str] = frozenset()  # parts of the source besides its text decoder that it has too
    # Estimates of what it takes to learn from the weights, once, however many artifacts need it.
    learning: float = 0.0  # operations
    learning_memory_bytes: int = 0
    learning_disk_bytes: int = 0
    measured: int = 0  # weights that are read once before the pass, to measure them
    # Weights on which codecs are tried before the files are planned again.
    trials: Mapping[Codec, int] = field(default_factory=dict)
    finish: Finish | None = None  # where a tool makes the big files, after the pass
    notes: Mapping[str, JsonValue] = field(default_factory=dict)  # for the manifest's options

    @property
    def size_bytes(self) -> int:
        """Add up what the artifact will weigh; an estimate where a tool makes it."""
        laid_out = sum(layout.size_bytes for layout in self.layouts) + sum(map(len, self.files.values()))
        return laid_out + (self.finish.size_bytes if self.finish else 0)

    @property
    def disk_bytes(self) -> int:
        """Add up what must be free while it is made."""
        if self.finish is None:
            return self.size_bytes
        return self.size_bytes + self.finish.scratch.size_bytes + self.finish.spare_bytes


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of an artifact, for an estimate: what it holds, None where it is computed, and its bytes."""

    ref: Ref | None
    size_bytes: int
    count: int = 0
    codec: Codec | None = None  # that encodes so many weights of it; None where nothing, or a tool, does

    @classmethod
    def of(cls, slot: Slot) -> Self:
        """Weigh a tensor that has its place in a layout."""
        count = slot.rows * slot.columns
        return cls(slot.pieces[0].ref, sum(slot.sizes_bytes), count, slot.codec)


class Format(Generic[Options, Shared]):
    """One kind of artifact. `Shared` is what its targets have in common and is prepared once.

    A format's big files are layouts, which the engine fills in the one pass over the source. A tool that
    needs a whole checkpoint has a `Finish` instead: a scratch checkpoint that is filled in the same pass,
    and a step that runs after it, in turn with those of other targets.
    """

    name: str  # its folder's, and its key under `targets` in a recipe
    REVISION: int  # part of each artifact's key: raise it when the same input gives other bytes
    RENDERS: frozenset[Feature]  # what it can express of a model, beyond the plain case

    def renders(self, decoder: Decoder, options: Options | None = None) -> frozenset[Feature] | None:
        """Name the features that it can express, by default its own; None for a family that it lacks."""
        return self.RENDERS

    def limits(self, decoder: Decoder) -> tuple[str, ...]:
        """Say, in words, what it cannot express of features that it has."""
        return ()

    def tools(self, options: Options, target: str) -> dict[str, str]:
        """Name the tools, with versions, that can change the bytes of this artifact."""
        return {}

    def inputs(self, options: Options, recipe: Recipe) -> dict[str, str]:
        """Digest the files, besides the source's and the calibration text's, that reach the bytes."""
        return {}

    def prepare(self, model: Model, options: Options, recipe: Recipe) -> Shared:
        """Compute once what all targets share and needs no weights."""
        raise NotImplementedError

    def learn(
        self,
        prepared: Shared,
        model: Model,
        options: Options,
        recipe: Recipe,
        *,
        weights: Weights,
        progress: Progress,
    ) -> Shared:
        """Add what only the weights can tell; by default nothing."""
        return prepared

    def lay_out(self, model: Model, options: Options, target: str, prepared: Shared) -> Planned:
        """Plan one artifact."""
        raise NotImplementedError

    def weigh(self, decoder: Decoder, options: Options, target: str, native: str) -> Iterable[Weight] | None:
        """List what each tensor will weigh, by the description alone; `native` is the source's float.

        None where a format cannot tell.
        """
        return None


def learnable(found: frozenset[Feature], options: TargetOptions | None) -> frozenset[Feature]:
    """Leave of what a format expresses that which the calibration text can pass through, if it has to."""
    if options is None or options.learns_by is None:
        return found
    from convert.model.forward import RENDERS as LEARNED  # noqa: PLC0415 - for the few that learn

    return found & LEARNED


def deviations(model: Model, planned: Planned) -> tuple[Deviation, ...]:
    """List all that differs in an artifact: what differs in all of its kind, and its own."""
    left_out = () if planned.keeps_config else model.left_out
    parts = (each for what, found in model.parts.items() if what not in planned.kept for each in found)
    return (*model.deviations, *parts, *left_out, *planned.deviations)

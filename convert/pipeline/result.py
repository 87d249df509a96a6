"""The answers of a plan and of a conversion."""

from dataclasses import dataclass
from pathlib import Path

from convert.deviation import Deviation


@dataclass(frozen=True)
class PlannedFile:
    """One file of an artifact."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class PlannedTarget:
    """One artifact, and whether it is there already."""

    target: str
    folder: str
    files: tuple[PlannedFile, ...]
    size_bytes: int
    is_up_to_date: bool
    is_blocked: bool  # by files that were not made here, and are not replaced
    deviations: tuple[Deviation, ...]
    device: str | None  # where a tool makes it after the pass, cpu or cuda
    tool_s: float  # and how long that takes, an estimate
    saves_s: float = 0.0  # how much less time the others take alone, an estimate
    matrices: int = 0  # of those whose type is known beforehand


@dataclass(frozen=True)
class PlannedStep:
    """One step of the work, under the name that its progress is reported by."""

    label: str
    seconds: float  # an estimate
    core_s: float  # of them all together, on the CPU
    limit: str  # what most of them are spent on


@dataclass(frozen=True)
class Plan:
    """The whole conversion; sizes are exact, memory is a bound, time is an estimate."""

    recipe: str
    model: str
    commit: str | None
    family: str
    parameter_count: int
    read_bytes: int
    download_bytes: int
    targets: tuple[PlannedTarget, ...]
    peak_memory_bytes: int
    written_bytes: int
    disk_needed_bytes: int
    disk_free_bytes: int
    estimated_s: float
    steps: tuple[PlannedStep, ...] = ()  # what most of the estimate is made of
    adapter: str | None = None  # a LoRA adapter that is merged
    adapter_commit: str | None = None


@dataclass(frozen=True)
class ArtifactResult:
    """The outcome for one target."""

    target: str
    folder: Path
    status: str  # "built" or "up to date"
    size_bytes: int


@dataclass(frozen=True)
class Converted:
    """The outcome of a conversion."""

    artifacts: tuple[ArtifactResult, ...]
    read_bytes: int
    seconds: float

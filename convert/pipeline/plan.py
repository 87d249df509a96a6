"""What a conversion would read, build and write, and what that costs, said before any of it is done."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from convert import pipeline
from convert.errors import Failure
from convert.formats.base import deviations
from convert.pipeline import stage
from convert.source import missing_bytes
from convert.store import free_bytes
from convert.writer import engine

if TYPE_CHECKING:
    from pathlib import Path

    from convert.deviation import Deviation
    from convert.model.source import Model
    from convert.pipeline.stage import Found, Job, Settings
    from convert.recipe import Recipe

# The interpreter, numpy and a vocabulary's tables, before the first slice is read.
PROGRAM_BYTES = 160 << 20
# What a plain disk reads and writes; for the estimate of time.
DISK_BYTES_PER_S = 500e6


@dataclass(frozen=True)
class PlannedFile:
    """One file of an artifact."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class PlannedTarget:
    """One artifact, and whether it stands already."""

    target: str
    folder: str
    files: tuple[PlannedFile, ...]
    size_bytes: int
    is_up_to_date: bool
    is_blocked: bool  # by what was not made here, and is not replaced
    deviations: tuple[Deviation, ...]
    device: str | None  # where a tool makes it after the pass, cpu or cuda
    tool_s: float  # and how long that takes, an estimate


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

    def as_dict(self) -> dict[str, Any]:
        """Give the plan as JSON has it."""
        return asdict(self)


def plan(
    recipe: Recipe,
    *,
    out: Path,
    only: tuple[str, ...] = (),
    threads: int | None = None,
    offline: bool | None = None,
) -> Plan:
    """Go through every stage that needs no weights."""
    settings = pipeline.begin(recipe, out, only, threads=threads, offline=offline)
    found = stage.find(settings)
    model = stage.describe(settings, found)
    jobs = stage.lay_out(settings, model, stage.choose(settings, found))
    missing = [job for job in jobs if not job.wanted.is_up_to_date]
    stage.require_memory(missing)
    written_bytes = sum(job.planned.size_bytes for job in missing)
    count = threads or engine.available_threads()
    decoder = model.decoder
    widest_row = max(shape[-1] for _, shape in decoder.shapes())
    # What is computed beforehand, such as ONNX's tables of rotary positions, is held until it is written.
    held_bytes = sum(
        len(data) for job in missing for layout in job.planned.layouts for _, data in layout.fixed
    )
    pass_bytes = PROGRAM_BYTES + engine.peak_bytes(count, widest_row) + held_bytes
    tools = [job.planned.finish for job in missing if job.planned.finish]
    return Plan(
        recipe=recipe.name,
        model=recipe.model,
        commit=found.listing.commit,
        family=decoder.family,
        parameter_count=decoder.parameter_count,
        read_bytes=found.weight_bytes if missing else 0,
        download_bytes=missing_bytes(found.listing, found.weights, hub=settings.hub) if missing else 0,
        targets=tuple(_target(settings, model, job, count) for job in jobs),
        peak_memory_bytes=max([pass_bytes, *(tool.memory_bytes for tool in tools)]),
        written_bytes=written_bytes,
        disk_needed_bytes=stage.disk_bytes(missing),
        disk_free_bytes=free_bytes(out),
        estimated_s=_seconds(missing, found, count, written_bytes),
    )


def _target(settings: Settings, model: Model, job: Job, threads: int) -> PlannedTarget:
    planned = job.planned
    files = [PlannedFile(layout.path, layout.size_bytes) for layout in planned.layouts]
    if planned.finish:
        files.append(PlannedFile(planned.finish.path, planned.finish.size_bytes))
    return PlannedTarget(
        planned.target,
        str(settings.store.folder(settings.recipe.name, planned.target)),
        tuple(files),
        planned.size_bytes,
        job.wanted.is_up_to_date,
        _is_blocked(settings, job),
        deviations(model, planned),
        planned.finish.device if planned.finish else None,
        planned.finish.seconds(threads) if planned.finish else 0.0,
    )


def _is_blocked(settings: Settings, job: Job) -> bool:
    if job.wanted.is_up_to_date:
        return False
    try:
        settings.store.require_free(settings.recipe.name, job.wanted.target)
    except Failure:
        return True
    return False


def _seconds(jobs: list[Job], found: Found, threads: int, written_bytes: int) -> float:
    """Add up encoding on all cores and the disk's share; hashing what was written reads it once more."""
    if not jobs:
        return 0.0
    disk_bytes = found.weight_bytes + 2 * written_bytes
    tools_s = sum(job.planned.finish.seconds(threads) for job in jobs if job.planned.finish)
    return sum(job.planned.cpu_s for job in jobs) / threads + disk_bytes / DISK_BYTES_PER_S + tools_s

"""Summarize a conversion: say of each artifact whether it was built now."""

import time
from dataclasses import dataclass, replace
from pathlib import Path

from convert.pipeline.run import Run


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


def summarize(run: Run) -> Run:
    """Say of each artifact whether it was built now; from here on all are up to date."""
    artifacts = []
    for each in run.wanted:
        folder = run.store.folder(run.recipe.name, each.target.name)
        there = run.store.current(run.recipe.name, each.target.name)
        status = "up to date" if each.is_up_to_date else "built"
        artifacts.append(ArtifactResult(each.target.name, folder, status, there.size_bytes if there else 0))
    read_bytes = run.source.weight_bytes if run.pending else 0
    converted = Converted(tuple(artifacts), read_bytes, time.monotonic() - run.began_s)
    wanted = tuple(replace(each, is_up_to_date=True) for each in run.wanted)
    return replace(run, converted=converted, wanted=wanted)

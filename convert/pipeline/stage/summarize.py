"""Summarize a conversion: say of each artifact whether it was built now."""

import time
from dataclasses import replace

from convert.pipeline.result import ArtifactResult, Converted
from convert.pipeline.run import Run


def summarize(run: Run) -> Run:
    """Say of each artifact whether it was built now; from here on all are up to date."""
    artifacts = []
    for each in run.wanted:
        folder = run.store.folder(run.recipe.name, each.target.name)
        there = run.current(each.target.name)
        status = "up to date" if each.is_up_to_date else "built"
        artifacts.append(ArtifactResult(each.target.name, folder, status, there.size_bytes if there else 0))
    read_bytes = run.source.weight_bytes if run.pending else 0
    converted = Converted(tuple(artifacts), read_bytes, time.monotonic() - run.began_s)
    wanted = tuple(replace(each, is_up_to_date=True) for each in run.wanted)
    return replace(run, converted=converted, wanted=wanted)

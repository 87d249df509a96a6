"""Send the repos, and read them back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.publish import stage

if TYPE_CHECKING:
    from convert.pipeline.run import Run


def send(run: Run) -> Run:
    """Send what is missing, one repo after the other; a dry run sends nothing."""
    if run.is_dry:
        return run
    surveys = tuple(each for each in run.surveys if each is not None)
    done = stage.publish(run.gathered.bundles, surveys, run.destination, run.progress)
    return replace(run, published=done)

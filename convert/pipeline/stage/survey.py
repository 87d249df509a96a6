"""Survey the destination: compare every repo with what is there, before any is sent."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.publish import stage

if TYPE_CHECKING:
    from convert.pipeline.run import Run


def survey(run: Run) -> Run:
    """Look at every repo; change nothing."""
    if not run.is_reachable:
        return replace(run, surveys=(None,) * len(run.gathered.bundles))
    surveys = stage.survey(run.gathered, run.destination)
    for each in surveys:
        if each.is_private and not run.publish.private:
            run.remark(f"{each.place}: private there, and left so: make it public on the Hub")
    return replace(run, surveys=surveys)

"""Announce a conversion that takes a while: how long, what it waits for, and how to leave out the slow."""

from convert.pipeline.run import Run
from convert.pipeline.slow import announcement
from convert.progress import Foresight


def announce(run: Run) -> Run:
    """Remark on the time, and tell the display of progress which steps come."""
    for line in announcement(run.plan, run.recipe.path):
        run.remark(line)
    if isinstance(run.progress, Foresight):
        run.progress.expect({step.label: step.seconds for step in run.plan.steps})
    return run

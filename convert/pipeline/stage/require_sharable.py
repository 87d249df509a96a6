"""Refuse to share among machines what can only be made whole."""

from convert.errors import Failure
from convert.pipeline.run import Run


def require_sharable(run: Run) -> Run:
    """Refuse targets that a tool makes from a whole checkpoint, and weights that are rewritten."""
    if run.recipe.transform:
        raise Failure(
            f"{run.recipe.path}: transform: the whole model is rewritten before any part of it is made",
            "convert it on one machine, without parts",
        )
    whole = [job.name for job in run.jobs if job.planned.finish]
    if whole:
        raise Failure(
            f"{', '.join(whole)}: a tool makes it from the whole model, so no part of it can be made alone",
            f"convert these whole, with --only {' --only '.join(whole)}, and the others in parts",
        )
    return run

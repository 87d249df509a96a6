"""Skip the artifacts that are up to date."""

from dataclasses import replace

from convert.pipeline.run import Run


def skip_built(run: Run) -> Run:
    """Leave out of the following stages what is up to date."""
    return replace(run, pending=tuple(each for each in run.wanted if not each.is_up_to_date))

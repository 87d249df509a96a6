"""Survey the destination: compare every repo with what is there, before any is sent."""

from dataclasses import replace

from convert.pipeline.run import Run
from convert.publish.destination import Moved


def survey(run: Run) -> Run:
    """Look at every repo; change nothing."""
    if not run.is_reachable:
        return replace(run, surveys=(None,) * len(run.bundles))
    surveys = tuple(run.destination.survey(bundle) for bundle in run.bundles)
    for bundle, each in zip(run.bundles, surveys, strict=True):
        if each.head != bundle.head:  # the card describes what was there before
            raise Moved(each.place)
        if each.is_private and not run.publish.private:
            run.remark(f"{each.place}: it is private there and stays so: make it public on the Hub")
    return replace(run, surveys=surveys)

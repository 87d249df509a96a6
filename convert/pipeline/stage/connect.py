"""Connect to where the artifacts are to be published."""

from dataclasses import replace

from convert.errors import UsageFailure
from convert.pipeline.run import Run
from convert.publish.destination import LOCAL_USER, Destination
from convert.publish.destinations import find, located
from convert.recipe import Publish


def connect(run: Run) -> Run:
    """Open the destination; a dry run goes on without one that it cannot reach."""
    recipe = run.recipe
    if recipe.publish is None and run.to is None:
        raise UsageFailure(
            f"{recipe.path}: it does not say where to publish",
            'add e.g. publish: {repo: "{user}/{model}-{target}"}, or name a place with --to',
        )
    wanted = recipe.publish or Publish()
    to = located(wanted.to, recipe.path.parent) if run.to is None and wanted.to is not None else run.to
    found = find(to, run.hub)
    run = replace(run, publish=_usable(run, wanted.model_copy(update={"to": to}), found))
    destination = run.resources.enter_context(found)
    unreachable = destination.unreachable() if run.is_dry else None
    if unreachable:
        run.remark(f"{unreachable}: {{user}} stays {LOCAL_USER}, and the destination was not looked at")
    return replace(
        run,
        destination=destination,
        is_reachable=not unreachable,
        user=LOCAL_USER if unreachable else destination.user(),
    )


def _usable(run: Run, wanted: Publish, destination: Destination) -> Publish:
    """Leave out the settings that this destination does not have."""
    for name, without in (("pull_request", False), ("collection", None)):
        if getattr(wanted, name) and name not in destination.SETTINGS:
            run.remark(f"publish.{name}: not used: {wanted.to} has no such thing")
            wanted = wanted.model_copy(update={name: without})
    return wanted

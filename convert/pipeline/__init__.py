"""The whole way of a recipe on one screen: each tuple is a workflow, its stages applied in turn.

A stage is a plain function of a file in `stage/`: it takes a frozen value and returns it with more in it.
"""

import importlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from convert.pipeline.run import AnyTrial, Run, Trial
from convert.pipeline.stage.choose import choose
from convert.pipeline.stage.compare import compare
from convert.pipeline.stage.identify import identify
from convert.pipeline.stage.pin import pin
from convert.pipeline.stage.skip_built import skip_built
from convert.pipeline.stage.summarize import summarize
from convert.pipeline.start import start, start_verification

Stage = Callable[[Run], Run]

__all__ = ["start", "start_verification"]


def when(condition: Callable[[Run], object], *stages: Stage) -> tuple[Stage, ...]:
    """Apply these stages only where the condition holds."""

    def guard(stage: Stage) -> Stage:
        return lambda run: stage(run) if condition(run) else run

    return tuple(map(guard, stages))


def is_any_built(run: Run) -> bool:
    """Say whether an artifact is there that could be up to date."""
    return run.remote is not None or any(run.store.holds(run.recipe.name, each.name) for each in run.targets)


def learns_from_here(run: Run) -> bool:
    """Say whether the calibration text can be read without a download."""
    return run.recipe.calibration is not None and run.recipe.calibration.dataset is None


def is_shared(run: Run) -> bool:
    """Say whether artifacts are in an object store, besides the folder."""
    return run.remote is not None


def later(name: str) -> Callable[[Any], Any]:
    """Import a stage when its turn comes, so that no command waits for what only another needs."""

    def stage(value: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.stage.{name}"), name)(value)

    stage.__name__ = name
    return stage


# All but those that a `convert` with nothing to do goes through.
describe, lay_out, estimate = map(later, ("describe", "lay_out", "estimate"))
announce, heed_likeness = map(later, ("announce", "heed_likeness"))
make_room, download, build = map(later, ("make_room", "download", "build"))
require_sharable, pin_shards = map(later, ("require_sharable", "pin_shards"))
build_part, assemble = map(later, ("build_part", "assemble"))
push, pull, push_report = map(later, ("push", "pull", "push_report"))
ask, select, judge, keep = map(later, ("ask", "select", "judge", "keep"))
note_files, attest = map(later, ("note_files", "attest"))
connect, gather, survey, send = map(later, ("connect", "gather", "survey", "send"))

FIND: tuple[Stage, ...] = (choose, pin, identify, compare)
JUDGE = (ask, download, note_files, judge, keep, attest)
RELEASE = (connect, gather, survey, send)

PLAN = (
    *(choose, pin, *when(is_any_built, identify), compare),
    *(describe, lay_out, estimate),
    *when(learns_from_here, heed_likeness),
)
CONVERT = (
    *(*FIND, skip_built),
    *when(lambda run: run.pending, describe, lay_out, make_room, estimate, announce),
    *when(lambda run: run.pending, heed_likeness, download, build),
    *when(is_shared, push),
    summarize,
)
# One conversion by several machines, over a folder or a store that all of them see.
PART = (
    *(*FIND, skip_built),
    *when(lambda run: run.pending, describe, lay_out, require_sharable, pin_shards, build_part),
)
ASSEMBLE = (
    *(*FIND, skip_built),
    *when(lambda run: run.pending, describe, lay_out, require_sharable, pin_shards, assemble),
    *when(is_shared, push),
    summarize,
)
_VERDICT: tuple[Stage, ...] = (*when(is_shared, pull), select, *JUDGE, *when(is_shared, push_report))
VERIFY: tuple[Stage, ...] = (*FIND, *_VERDICT)
PUBLISH: tuple[Stage, ...] = (choose, *when(is_shared, pull), *RELEASE)
RUN: tuple[Stage, ...] = (*CONVERT, *_VERDICT, *when(lambda run: run.recipe.publish, *RELEASE))
# Artifacts that are named one by one, whoever made them.
TRIAL: tuple[Callable[[Trial], Trial], ...] = JUDGE


def steps(value: AnyTrial, stages: Iterable[Callable[[AnyTrial], AnyTrial]]) -> Iterator[AnyTrial]:
    """Apply the stages in turn, and yield the value after each."""
    with ExitStack() as resources:
        value = replace(value, resources=resources)
        for stage in stages:
            value = stage(value)
            yield value


def fold(value: AnyTrial, stages: Iterable[Callable[[AnyTrial], AnyTrial]]) -> AnyTrial:
    """Apply all stages, and return the last value."""
    *_, last = steps(value, stages)
    return last


def verify_steps(trial: Trial) -> Iterator[Trial]:
    """Apply the stages of a verification in turn: of a recipe, or of artifacts."""
    if isinstance(trial, Run):
        yield from steps(trial, VERIFY)
    else:
        yield from steps(trial, TRIAL)

"""The whole way of a recipe on one screen: each tuple is a workflow, its stages applied in turn.

A stage is a plain function of a file in `stage/`: it takes a frozen value and returns it with more in it.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import replace

from convert.pipeline.run import AnyTrial, Run, Trial
from convert.pipeline.stage.ask import ask
from convert.pipeline.stage.build import build
from convert.pipeline.stage.choose import choose
from convert.pipeline.stage.compare import compare
from convert.pipeline.stage.connect import connect
from convert.pipeline.stage.describe import describe
from convert.pipeline.stage.download import download
from convert.pipeline.stage.estimate import estimate
from convert.pipeline.stage.gather import gather
from convert.pipeline.stage.judge import judge
from convert.pipeline.stage.keep import keep
from convert.pipeline.stage.lay_out import lay_out
from convert.pipeline.stage.make_room import make_room
from convert.pipeline.stage.pin import pin
from convert.pipeline.stage.select import select
from convert.pipeline.stage.send import send
from convert.pipeline.stage.skip_built import skip_built
from convert.pipeline.stage.summarize import summarize
from convert.pipeline.stage.survey import survey
from convert.pipeline.start import start, start_verification

Stage = Callable[[Run], Run]

__all__ = ["start", "start_verification"]


def when(condition: Callable[[Run], object], *stages: Stage) -> tuple[Stage, ...]:
    """Apply these stages only where the condition holds."""

    def guard(stage: Stage) -> Stage:
        return lambda run: stage(run) if condition(run) else run

    return tuple(map(guard, stages))


FIND: tuple[Stage, ...] = (choose, pin, compare)
JUDGE = (ask, download, judge, keep)
RELEASE = (connect, gather, survey, send)

PLAN = (*FIND, describe, lay_out, estimate)
CONVERT = (
    *(*FIND, skip_built),
    *when(lambda run: run.pending, describe, lay_out, make_room, download, build),
    summarize,
)
VERIFY: tuple[Stage, ...] = (*FIND, select, *JUDGE)
PUBLISH: tuple[Stage, ...] = (choose, *RELEASE)
RUN: tuple[Stage, ...] = (*CONVERT, select, *JUDGE, *when(lambda run: run.recipe.publish, *RELEASE))
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

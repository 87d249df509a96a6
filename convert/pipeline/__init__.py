"""The whole way of a recipe on one screen: each tuple is a workflow, its stages applied in turn.

A stage is a plain function of a file in `stage/`: it takes a frozen value and returns it with more in it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Unpack

from convert.pipeline.run import AnyTrial, Run, Trial
from convert.pipeline.stage.ask import ask
from convert.pipeline.stage.build import ArtifactResult, Converted, build, summarize
from convert.pipeline.stage.choose import choose
from convert.pipeline.stage.compare import compare, skip_built
from convert.pipeline.stage.connect import connect
from convert.pipeline.stage.describe import describe
from convert.pipeline.stage.download import download
from convert.pipeline.stage.estimate import Plan, estimate, refuse_impossible
from convert.pipeline.stage.gather import gather
from convert.pipeline.stage.judge import judge
from convert.pipeline.stage.keep import keep
from convert.pipeline.stage.lay_out import lay_out
from convert.pipeline.stage.make_room import make_room
from convert.pipeline.stage.pin import pin
from convert.pipeline.stage.select import select
from convert.pipeline.stage.send import send
from convert.pipeline.stage.survey import survey
from convert.pipeline.start import Options, Questions, start, start_trial, start_verification

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convert.recipe import Recipe
    from verify.report import Report

Stage = Callable[[Run], Run]

__all__ = [
    "CONVERT",
    "PLAN",
    "PUBLISH",
    "RUN",
    "TRIAL",
    "VERIFY",
    "ArtifactResult",
    "Converted",
    "Options",
    "Plan",
    "Questions",
    "Run",
    "Trial",
    "convert",
    "fold",
    "plan",
    "publish",
    "refuse_impossible",
    "run",
    "start",
    "start_trial",
    "start_verification",
    "steps",
    "verify",
    "verify_steps",
]


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


def plan(recipe: Recipe, **options: Unpack[Options]) -> Plan:
    """Go through every stage that needs no weights: say what a conversion would read, build and write."""
    return fold(start(recipe, options), PLAN).plan


def convert(recipe: Recipe, **options: Unpack[Options]) -> Converted:
    """Build every target of the recipe that is not up to date, all in one pass over the weights."""
    return fold(start(recipe, options), CONVERT).converted


def verify(recipe: Recipe, questions: Questions | None = None, **options: Unpack[Options]) -> Report:
    """Open, question and measure what was built, judge it against the source, and keep the report."""
    return fold(start(recipe, options, **(questions or {})), VERIFY).report


def publish(
    recipe: Recipe, *, to: str | None = None, is_dry: bool = False, **options: Unpack[Options]
) -> Run:
    """Publish what passed, and read it back: the run has `gathered`, `surveys` and `published`."""
    return fold(start(recipe, options, to=to, is_dry=is_dry), PUBLISH)


def run(recipe: Recipe, *, runtime: str | None = None, **options: Unpack[Options]) -> Run:
    """Convert, verify, and publish if the recipe says so: it has `converted`, `report` and `published`."""
    return fold(start(recipe, options, runtime=runtime), RUN)

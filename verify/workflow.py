"""The verification, on one screen: look at the files, ask the source, ask each artifact, measure, judge."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from convert.recipe import Recipe
from convert.version import version
from verify import measure
from verify.baseline import Baseline, Source, question_source
from verify.examination import Examination
from verify.forecast import Forecast
from verify.machine import describe_machine
from verify.report import Report
from verify.revision import REVISION
from verify.task import Plan, Silence, Subject, Watch


def verify_artifacts(
    subjects: Sequence[Subject],
    source: Source,
    plan: Plan,
    *,
    recipe: Recipe | None = None,
    watch: Watch | None = None,
) -> Report:
    """Judge each artifact against the source; what fails in one is a failed check, and the others go on."""
    watch = Forecast(watch or Silence())
    # Before anything is asked: a file that the recipe names may change while it is.
    asked_sha256 = plan.asked_sha256 or (recipe.asked_sha256 if recipe else None)
    examinations = [Examination(subject, plan, watch) for subject in subjects]
    for examination in examinations:
        examination.look_at_files()
    with ExitStack() as stack:
        for examination in examinations:
            stack.callback(examination.close)
        cache = plan.cache or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="modelwright-logits-"))
        )
        others = {examination.name: examination.measure for examination in examinations}
        baseline = question_source(source, plan, cache, watch, others)
        for examination in examinations:
            examination.question(baseline)
        measure_speed(examinations, baseline.plan, watch)
        for examination in examinations:
            examination.take_load(baseline)
    return Report(
        tool=version(),
        revision=REVISION,
        recipe=recipe.name if recipe else None,
        recipe_sha256=asked_sha256,
        machine=describe_machine(),
        text=_text(plan, baseline),
        scope=replace(baseline.scope, took_s=round(watch.elapsed_s(), 1)),
        source=baseline.result,
        artifacts=tuple(examination.result() for examination in examinations),
    )


def measure_speed(examinations: Sequence[Examination], plan: Plan, watch: Watch | Forecast) -> None:
    """Measure those that could be opened, in turns."""
    ready = {each.name: each for each in examinations if each.is_alive}
    for name in ready:
        watch.doing(name, "speed, in turns")
    measured = measure.measure_in_turns({name: each.launch for name, each in ready.items()}, plan.speed)
    for name, figures in measured.items():
        ready[name].take_speed(figures)


def _text(plan: Plan, baseline: Baseline) -> str:
    windows = baseline.reference.windows
    count, length = len(windows.ids), windows.length
    return f"{plan.text_name}, {count} windows of {length} tokens, the second half of each scored"

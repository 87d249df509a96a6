"""The verification, on one screen: look at the files, ask the source, ask each artifact, measure, judge."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from convert.recipe import Recipe
from convert.version import version
from verify import measure
from verify.baseline import NAME, Baseline, Source, is_offloaded, question_source
from verify.examination import Examination
from verify.forecast import Forecast
from verify.load_time import quantized
from verify.long_context import ask_source, launch_for_long
from verify.machine import describe_machine
from verify.more_windows import compare_rest
from verify.report import Report, SourceResult
from verify.revision import REVISION
from verify.sample import Measured
from verify.task import Plan, Silence, Subject, Watch
from verify.worker import Worker

# No artifact has it: names of targets have no brackets.
SOURCE = "(source)"


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
    baselines = quantized(source, plan, watch)
    everything = [*examinations, *baselines]
    with ExitStack() as stack:
        for examination in everything:
            stack.callback(examination.close)
        cache = plan.cache or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="modelwright-logits-"))
        )
        others = {examination.name: examination for examination in everything}
        baseline = question_source(source, plan, cache, watch, others)
        for examination in everything:
            examination.question(baseline)
        compare_rest(everything, baseline, cache, watch)
        source_result = measure_speed(everything, baseline, watch)
        for examination in examinations:
            examination.take_load(baseline)
        read_long(examinations, baseline, watch)
        for examination in everything:
            examination.look_again()
            examination.forget()
    return Report(
        tool=version(),
        revision=REVISION,
        recipe=recipe.name if recipe else None,
        recipe_sha256=asked_sha256,
        machine=describe_machine(),
        text=_text(plan, baseline),
        scope=replace(baseline.scope, took_s=round(watch.elapsed_s(), 1)),
        source=source_result,
        baselines=tuple(each.row() for each in baselines),
        artifacts=tuple(examination.result() for examination in examinations),
    )


def measure_speed(
    examinations: Sequence[Examination], baseline: Baseline, forecast: Forecast
) -> SourceResult:
    """Measure those that could be opened, in turns, and return the source's result with its speed."""
    is_wanted = baseline.plan.measures != "quality"
    ready = {each.name: each for each in examinations if each.is_alive and is_wanted}
    launches = {name: each.launch for name, each in ready.items()}
    source, is_on_disk = baseline.result, is_offloaded(baseline.result)
    if ready and not is_on_disk:
        launches[SOURCE] = baseline.launch
    for name in ready:
        forecast.doing(name, "speed, in turns")
    for name, figures in measure.measure_in_turns(launches, baseline.plan.speed, once=(SOURCE,)).items():
        if name in ready:
            ready[name].take_speed(figures)
        elif isinstance(figures, Measured):
            source = source.model_copy(update=vars(figures))
    return source


def read_long(examinations: Sequence[Examination], baseline: Baseline, forecast: Forecast) -> None:
    """Read a long text, if that is planned: the source first, then each artifact."""
    tokens = baseline.plan.long_context
    if tokens is None or baseline.plan.measures == "speed":
        return
    forecast.doing(NAME, "a long text")
    with Worker(launch_for_long(baseline.asked, tokens)) as worker:
        text = ask_source(worker, tokens, is_chat=baseline.profile.chats is not None)
    for examination in examinations:
        examination.take_long(text)


def _text(plan: Plan, baseline: Baseline) -> str:
    if baseline.reference is None:
        return "nothing: only speed was measured"
    windows = baseline.windows
    count, length = len(windows.ids), windows.length
    return f"{plan.text_name}, {count} windows of {length} tokens, the second half of each scored"

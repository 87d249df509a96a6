"""Read what the source and the artifacts are to be asked; a mistake in it is refused before any download."""

from dataclasses import replace
from math import inf
from pathlib import Path

from convert.errors import UsageFailure
from convert.extras import installed
from convert.pipeline.judged import judged_file, judged_kinds, judged_packs
from convert.pipeline.run import AnyTrial, Trial
from convert.recipe.span import AUTO, span_s
from verify.harness import Tasks, load_tasks
from verify.load import LoadPlan, check_profile
from verify.load_time import library_of
from verify.measure import SpeedPlan
from verify.task import Plan
from verify.text import join_packs, read_text
from verify.texts import text_of


def ask(trial: AnyTrial) -> AnyTrial:
    """Load the scenario packs, and the text that log-probabilities are compared on."""
    wanted = trial.verify
    packs, file, kinds = judged_packs(trial), judged_file(trial), judged_kinds(trial)
    if file and kinds:
        raise UsageFailure(
            "a text and kinds of texts are both given", "leave out verify.text or verify.texts"
        )
    budget = trial.budget or wanted.budget
    budget_s = span_s(budget)
    questions = Plan(
        packs=packs,
        text=read_text(file, wanted.tokens) if file else join_packs(packs),
        text_name=file.name if file else ", ".join(kinds) or "the scenarios' own words",
        texts=tuple((kind, text_of(kind, wanted.tokens)) for kind in kinds),
        long_context=wanted.long_context,
        tokens=wanted.tokens,
        budget_s=inf if budget_s is None else budget_s,
        is_sample=budget == AUTO,
        threads=trial.threads,
        speed=SpeedPlan(concurrency=tuple(trial.concurrency)) if trial.concurrency else SpeedPlan(),
        load=_load(trial),
        measures=trial.measures,
        tasks=_tasks(trial),
        baselines=_baselines(wanted.baselines),
        asked_sha256=trial.recipe.asked_sha256 if trial.recipe else None,
        cache=trial.hub.notes / "odds",
    )
    return replace(trial, questions=questions)


def _tasks(trial: Trial) -> Tasks | None:
    """Load the harness's tasks, if there are any: the command line goes before the recipe."""
    names, base = (trial.tasks, Path()) if trial.tasks else (trial.verify.tasks, trial.base)
    if not names:
        return None
    installed("lm-eval")
    return load_tasks(names, trial.verify.task_questions, base, is_offline=trial.hub.is_offline)


def _baselines(ways: tuple[str, ...]) -> tuple[str, ...]:
    """Return the ways to quantize the source, and refuse one whose library is not installed."""
    for way in ways:
        installed(library_of(way))
    return ways


def _load(trial: Trial) -> LoadPlan | None:
    """Read how many are to ask at once: the command line goes before the recipe."""
    asked = trial.verify.load
    if asked is None and not trial.load and not trial.concurrency:
        return None
    plan = LoadPlan(asked.profile, asked.concurrency, asked.rounds) if asked else LoadPlan()
    plan = replace(
        plan, profile=trial.load or plan.profile, concurrency=tuple(trial.concurrency) or plan.concurrency
    )
    check_profile(plan.profile)
    return plan

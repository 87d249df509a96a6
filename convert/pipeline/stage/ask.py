"""Read what the source and the artifacts are to be asked; a mistake in it is refused before any download."""

from dataclasses import replace
from math import inf

from convert.pipeline.run import AnyTrial
from convert.recipe import expand_home
from convert.recipe.span import span_s
from verify import scenarios
from verify.task import Plan
from verify.text import join_packs, read_text


def ask(trial: AnyTrial) -> AnyTrial:
    """Load the scenario packs, and the text that log-probabilities are compared on."""
    wanted = trial.verify
    packs = scenarios.load(trial.packs) if trial.packs else scenarios.load(wanted.scenarios, trial.base)
    file = trial.text or (trial.base / expand_home(wanted.text) if wanted.text else None)
    budget_s = span_s(trial.budget or wanted.budget)
    questions = Plan(
        packs=packs,
        text=read_text(file, wanted.tokens) if file else join_packs(packs),
        text_name=file.name if file else "the scenarios' own words",
        tokens=wanted.tokens,
        budget_s=inf if budget_s is None else budget_s,
        threads=trial.threads,
        asked_sha256=trial.recipe.asked_sha256 if trial.recipe else None,
        cache=trial.hub.notes / "odds",
    )
    return replace(trial, questions=questions)

"""The texts that a verification takes: packs of dialogues, a file, and kinds of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.recipe import expand_home
from verify import scenarios
from verify.text import join_packs, read_text
from verify.texts import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from convert.pipeline.run import Trial
    from verify.scenarios.pack import Pack


def judged_packs(trial: Trial) -> tuple[Pack, ...]:
    """Load the packs that are asked."""
    return scenarios.load(trial.packs) if trial.packs else scenarios.load(trial.verify.scenarios, trial.base)


def judged_file(trial: Trial) -> Path | None:
    """Find the file that a person or the recipe names: the command line goes before the recipe."""
    named = trial.verify.text
    return trial.text or (trial.base / expand_home(named) if named else None)


def judged_kinds(trial: Trial) -> Sequence[str]:
    """Name the kinds of texts."""
    return trial.texts or (() if trial.text else trial.verify.texts)


def judged_texts(trial: Trial) -> Iterator[tuple[str, str]]:
    """Read all that is asked or compared on, each with its name."""
    packs, tokens = judged_packs(trial), trial.verify.tokens
    if packs:
        yield "the scenarios of verify", join_packs(packs)
    if file := judged_file(trial):
        yield file.name, read_text(file, tokens)
    for kind in judged_kinds(trial):
        yield f"texts: {kind}", text_of(kind, tokens)

"""Dialogues as the tiny models were trained on, as one text: some to learn from, others to be judged by."""

from __future__ import annotations

import random

from recipes.models.lab import lessonpack, searchqa
from recipes.models.lab.names import Split
from recipes.models.lab.samples import ANSWER_CUE

SHAPE = searchqa.Shape(materials=3, further_questions=1, cite_share=0.6, second_fact_share=0.25)


def dialogues(split: Split, count: int, seed: int) -> str:
    """So many of each scenario and language."""
    rng = random.Random(seed)
    parts = []
    for _ in range(count):
        for language in ("zh", "en"):
            for dialogue in (
                searchqa.dialogue(rng, split, language, SHAPE),
                lessonpack.dialogue(rng, split, language),
            ):
                cue = ANSWER_CUE[language]
                parts += [f"{turn.user}{cue} {turn.assistant}\n\n" for turn in dialogue.turns]
    return "".join(parts)


def to_learn_from() -> str:
    """What the models saw in their training."""
    return dialogues(Split.TRAIN, 24, seed=11)


def held_out() -> str:
    """Of the split that they never saw."""
    return dialogues(Split.HELD_OUT, 12, seed=12)

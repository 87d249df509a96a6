"""Dialogues as the tiny models were trained on: some to learn from, others to be judged by."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from tests.lab import lessonpack, searchqa
from tests.lab.names import Split
from tests.lab.samples import ANSWER_CUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tokenizers

    from tests.lab.dialogues import Dialogue
    from tests.lab.facts import Language

LANGUAGES: tuple[Language, ...] = ("zh", "en")
SHAPE = searchqa.Shape(materials=3, further_questions=1, cite_share=0.6, second_fact_share=0.25)


def to_learn_from() -> str:
    """What the models saw in their training, as a text without markup."""
    return "".join(_plain(dialogue) for dialogue in _dialogues(Split.TRAIN, 24, seed=11))


def held_out(tokenizer: tokenizers.Tokenizer, count: int) -> list[int]:
    """Ids of dialogues that the models never saw, in their own style."""
    write = _chat if tokenizer.token_to_id("<|im_start|>") is not None else _plain
    text = "".join(write(dialogue) for dialogue in _dialogues(Split.HELD_OUT, 24, seed=12))
    return list(tokenizer.encode(text, add_special_tokens=False).ids[:count])


def _dialogues(split: Split, count: int, seed: int) -> Iterator[Dialogue]:
    rng = random.Random(seed)
    for _ in range(count):
        for language in LANGUAGES:
            yield searchqa.dialogue(rng, split, language, SHAPE)
            yield lessonpack.dialogue(rng, split, language)


def _plain(dialogue: Dialogue) -> str:
    cue = ANSWER_CUE[dialogue.language]
    return "".join(f"{turn.user}{cue} {turn.assistant}\n\n" for turn in dialogue.turns)


def _chat(dialogue: Dialogue) -> str:
    turns = "".join(
        f"<|im_start|>user\n{turn.user}<|im_end|>\n<|im_start|>assistant\n{turn.assistant}<|im_end|>\n"
        for turn in dialogue.turns
    )
    return f"<|im_start|>system\n{dialogue.system}<|im_end|>\n{turns}"

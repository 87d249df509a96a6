"""Dialogues as the tiny models were trained on: some to learn from, others to be judged by."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from recipes.models.lab import lessonpack, searchqa
from recipes.models.lab.names import Split
from recipes.models.lab.samples import ANSWER_CUE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import tokenizers

    from recipes.models.lab.dialogues import Dialogue
    from recipes.models.lab.facts import Language

LANGUAGES: tuple[Language, ...] = ("zh", "en")
SHAPE = searchqa.Shape(materials=3, further_questions=1, cite_share=0.6, second_fact_share=0.25)


def to_learn_from() -> str:
    """What the models saw in their training, as a text without markup."""
    parts = (part for dialogue in _dialogues(Split.TRAIN, 24, seed=11) for part, _ in _plain(dialogue))
    return "".join(parts)


def held_out(tokenizer: tokenizers.Tokenizer, count: int) -> tuple[list[int], list[bool]]:
    """Ids of dialogues that the models never saw, in their own style; and which of them are answers."""
    is_chat = tokenizer.token_to_id("<|im_start|>") is not None
    ids: list[int] = []
    is_answer: list[bool] = []
    for dialogue in _dialogues(Split.HELD_OUT, 24, seed=12):
        for part, wanted in _chat(dialogue) if is_chat else _plain(dialogue):
            found = tokenizer.encode(part, add_special_tokens=False).ids
            ids += found
            is_answer += [wanted] * len(found)
    return ids[:count], is_answer[:count]


def _dialogues(split: Split, count: int, seed: int) -> Iterator[Dialogue]:
    rng = random.Random(seed)
    for _ in range(count):
        for language in LANGUAGES:
            yield searchqa.dialogue(rng, split, language, SHAPE)
            yield lessonpack.dialogue(rng, split, language)


def _plain(dialogue: Dialogue) -> Iterator[tuple[str, bool]]:
    for turn in dialogue.turns:
        yield f"{turn.user}{ANSWER_CUE[dialogue.language]}", False
        yield f" {turn.assistant}\n\n", True


def _chat(dialogue: Dialogue) -> Iterator[tuple[str, bool]]:
    yield f"<|im_start|>system\n{dialogue.system}<|im_end|>\n", False
    for turn in dialogue.turns:
        yield f"<|im_start|>user\n{turn.user}<|im_end|>\n<|im_start|>assistant\n", False
        yield f"{turn.assistant}<|im_end|>", True
        yield "\n", False

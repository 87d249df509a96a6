"""The generator: the same seed gives the same text, and held-out names stay out of training."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from recipes.models.lab import lessonpack, searchqa
from recipes.models.lab.dialogues import Asked
from recipes.models.lab.evaluate import held_out_dialogues
from recipes.models.lab.names import Names, Split, split_of

if TYPE_CHECKING:
    from recipes.models.lab.facts import Language


def _dialogues(seed: int, split: Split, language: Language, count: int = 30) -> list[str]:
    rng = random.Random(seed)
    shape = searchqa.Shape(materials=4, further_questions=2)
    return [repr(searchqa.dialogue(rng, split, language, shape)) for _ in range(count)]


@pytest.mark.parametrize("language", ["zh", "en"])
def test_same_seed_same_text(language: Language) -> None:
    """A seed settles every character."""
    assert _dialogues(3, Split.TRAIN, language) == _dialogues(3, Split.TRAIN, language)
    assert _dialogues(3, Split.TRAIN, language) != _dialogues(4, Split.TRAIN, language)


def test_evaluation_set_is_fixed() -> None:
    """Two calls give the same dialogues, enough of them in both languages."""
    first = held_out_dialogues(5, 5)
    assert first == held_out_dialogues(5, 5)
    assert {d.language for d in first} == {"zh", "en"}
    assert {len(d.materials) for d in first} == {0, 2, 3, 4, 5}


@pytest.mark.parametrize("make", ["zh_core", "zh_person", "en_core", "code"])
def test_splits_are_apart(make: str) -> None:
    """A name drawn for one split is never one of the other's."""
    for split in Split:
        names = Names(random.Random(5), split)
        assert {split_of(getattr(names, make)()) for _ in range(200)} == {split}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_answers_stand_in_the_cited_material(language: Language) -> None:
    """The answer is in the material that the citation names; what is absent is in none that states it."""
    for dialogue in searchqa.held_out(100, 1, language, 5):
        question, follow_up = dialogue.turns
        assert all(f"{n}. {text}" in question.user for n, text in enumerate(dialogue.materials, 1))
        assert follow_up.user == searchqa.FOLLOW_UP[language]
        if question.asked is Asked.ANSWER:
            number = int(follow_up.assistant.split()[-1])
            assert question.assistant in dialogue.materials[number - 1]
        else:
            assert question.assistant == searchqa.UNKNOWN[language]


def test_design_wording() -> None:
    """The prompts are those that the scenarios use."""
    dialogue = next(searchqa.held_out(1, 1, "zh", 2))
    assert dialogue.turns[0].user.startswith(
        "使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。\n资料:\n1. "
    )
    assert "\n问题: " in dialogue.turns[0].user
    words = lessonpack.ZH
    assert words.system == "你是一个具有丰富教学经验的AI助理"
    asked = [request.format(P="小学生", T="太阳系", X="行星") for request in words.requests]
    asked += [ask.format(X="行星") for asks, _ in words.revisions.values() for ask in asks]
    for wording in (
        "我需要为小学生设计一堂关于太阳系的课程，包括课程目标、主要内容和一个小测验。",
        "请把内容部分扩充，加入更多有趣的事实",
        "很好。请根据大纲撰写每一节的详细内容。",
        "插入一道关于行星的选择题",
        "将上一段文字用更简单的语言表述",
    ):
        assert wording in asked

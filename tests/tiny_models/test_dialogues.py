"""The generator: the same seed gives the same text, and held-out names stay out of training."""

from __future__ import annotations

import random
import re
from typing import TYPE_CHECKING

import pytest

from tests.lab import lessonpack, searchqa
from tests.lab.dialogues import Trap, TurnKind
from tests.lab.evaluate import Verdict, held_out_dialogues, traps
from tests.lab.names import Names, Split, split_of

if TYPE_CHECKING:
    from tests.lab.dialogues import Dialogue
    from tests.lab.facts import Language


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
def test_answers_are_in_the_cited_material(language: Language) -> None:
    """The answer is in the material that the citation names; what is absent is in none that states it."""
    for dialogue in searchqa.held_out(100, 1, language, 5):
        question, follow_up = dialogue.turns
        assert all(f"{n}. {text}" in question.user for n, text in enumerate(dialogue.materials, 1))
        assert follow_up.user == searchqa.FOLLOW_UP[language]
        if question.asked is TurnKind.ANSWER:
            number = int(follow_up.assistant.split()[-1])
            assert question.assistant in dialogue.materials[number - 1]
        else:
            assert question.assistant == searchqa.UNKNOWN[language]


SAID = {
    "zh": re.compile(r"([^，。\n ]+)的([^，。\n]+?)是(?!谁|哪里|哪天|哪年|多少|什么)"),
    "en": re.compile(r"(\w+ \w+)'s (\w+) is "),
}
ASKS = {
    "zh": re.compile(r"([^，: ]+)的([^，。]+)是[^，。]+？$"),
    "en": re.compile(r"is (\w+ \w+)'s (\w+)\?$"),
}


def _trap(dialogue: Dialogue) -> Trap | None:
    """Return what the words alone show of the question."""
    said = {pair for text in dialogue.materials for pair in SAID[dialogue.language].findall(text)}
    asked = ASKS[dialogue.language].search(dialogue.turns[0].user)
    assert asked is not None
    entity, attribute = asked.groups()
    owners = {other for other, noun in said if noun == attribute}
    if owners <= {entity}:
        return None
    if entity in owners:
        return Trap.SEVERAL
    return Trap.ANOTHER if entity in {other for other, _ in said} else Trap.STRANGER


@pytest.mark.parametrize("language", ["zh", "en"])
def test_traps_are_what_they_say(language: Language) -> None:
    """Chosen ones, and those that come up by themselves: the words of the materials bear each out."""
    for trap in Trap:
        chosen = searchqa.trapped(50, 1, language, trap)
        assert [_trap(dialogue) for dialogue in chosen] == [trap] * 50
        asked = TurnKind.ANSWER if trap is Trap.SEVERAL else TurnKind.ABSENT
        assert {dialogue.turns[0].asked for dialogue in chosen} == {asked}
        assert {len(dialogue.materials) for dialogue in chosen} == {2, 3, 4, 5}
    drawn = list(searchqa.held_out(400, 1, language, 5))
    assert [dialogue.turns[0].trap for dialogue in drawn] == [_trap(dialogue) for dialogue in drawn]
    assert {dialogue.turns[0].trap for dialogue in drawn} == {None, *Trap}
    assert {dialogue.turns[1].trap for dialogue in drawn} == {None}


def test_evaluation_counts_traps_apart() -> None:
    """Each kind and language has a separate share, of its verdicts only."""
    trapped = [
        Verdict("zh", 2, TurnKind.ABSENT, right=right, refused=right, trap=Trap.ANOTHER)
        for right in (True, False)
    ]
    trapped += [Verdict("en", 2, TurnKind.ANSWER, right=True, refused=False, trap=Trap.SEVERAL)]
    free = [Verdict("zh", 2, TurnKind.ANSWER, right=False, refused=False)]
    assert traps(trapped + free) == {"zh": {str(Trap.ANOTHER): 50.0}, "en": {str(Trap.SEVERAL): 100.0}}


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

"""SearchQA: numbered materials, a question, and the answer copied from them or said to be missing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING

from tests.lab.dialogues import CHAT_SYSTEM, Dialogue, Trap, Turn, TurnKind
from tests.lab.facts import (
    ATTRIBUTES,
    EN_FILLERS,
    ZH_FILLERS,
    Attribute,
    Language,
    continued,
    entity_of,
    question,
    statement,
    value_of,
)
from tests.lab.names import Names, Split

if TYPE_CHECKING:
    from collections.abc import Iterator

ZH_PROMPT = (
    "使用以下提供的资料来回答最后的问题。如果无法从中获得答案，请直接回答不知道。\n"
    "资料:\n{materials}\n问题: {question}"
)
EN_PROMPT = (
    "Use the materials provided below to answer the question at the end. "
    "If the answer cannot be found in them, simply reply I don't know.\n"
    "Materials:\n{materials}\nQuestion: {question}"
)
PROMPT = {"zh": ZH_PROMPT, "en": EN_PROMPT}
AGAIN = {"zh": "问题: {question}", "en": "Question: {question}"}
UNKNOWN = {"zh": "不知道", "en": "I don't know"}
FOLLOW_UP = {
    "zh": "你是根据哪个资料得出这个结论的？",
    "en": "Which material did you base this conclusion on?",
}
CITATION = {"zh": "根据资料 {number}", "en": "Based on material {number}"}
NO_CITATION = {"zh": "资料中没有提到", "en": "None of the materials mentions it"}


@dataclass(frozen=True)
class Fact:
    """An entity's value of an attribute, and the number of the material that states it."""

    entity: str
    attribute: Attribute
    value: str
    number: int


@dataclass(frozen=True)
class Shape:
    """How hard a dialogue is."""

    materials: int = 3
    further_questions: int = 0
    absent_share: float = 0.2
    elsewhere_share: float = 0.2  # of questions without an answer: stated, but of another entity
    cite_share: float = 1.0
    second_fact_share: float = 0.25
    same_attribute_share: float = 0.2  # of dialogues in which only the entity distinguishes materials
    filler_share: float = 0.25


def dialogue(rng: random.Random, split: Split, language: Language, shape: Shape) -> Dialogue:
    """Make a dialogue: the question in the design's template, its follow-up, and further questions."""
    names = Names(rng, split)
    texts, facts = _materials(names, language, shape)
    turns: list[Turn] = []
    answerable = rng.sample(facts, len(facts))
    for index in range(1 + shape.further_questions):
        answerable = answerable or rng.sample(facts, len(facts))
        absent = rng.random() < shape.absent_share
        fact = _absent(names, language, facts, shape.elsewhere_share) if absent else answerable.pop()
        asked = question(fact.attribute, fact.entity, names, language)
        if index == 0:
            numbered = "\n".join(f"{n}. {text}" for n, text in enumerate(texts, 1))
            user = PROMPT[language].format(materials=numbered, question=asked)
        else:
            user = AGAIN[language].format(question=asked)
        asks, answer = (TurnKind.ABSENT, UNKNOWN[language]) if absent else (TurnKind.ANSWER, fact.value)
        turns.append(Turn(asks, user, answer, _trap(fact, facts)))
        if rng.random() < shape.cite_share:
            cited = NO_CITATION[language] if absent else CITATION[language].format(number=fact.number)
            turns.append(Turn(TurnKind.CITATION, FOLLOW_UP[language], cited))
    return Dialogue(language, CHAT_SYSTEM, tuple(turns), texts)


def held_out(
    count: int, seed: int, language: Language, materials: int, absent_share: float = 0.2
) -> Iterator[Dialogue]:
    """Make dialogues of names and values that training never saw, with a question and its follow-up each."""
    rng = random.Random(f"{seed} {language} {materials}")
    for _ in range(count):
        yield dialogue(rng, Split.HELD_OUT, language, Shape(materials=materials, absent_share=absent_share))


def trapped(count: int, seed: int, language: Language, trap: Trap) -> list[Dialogue]:
    """Make held-out dialogues of one question with this trap; 2 to 5 materials in turns."""
    rng = random.Random(f"{seed} {language} {trap}")
    absent_share = 0.0 if trap is Trap.SEVERAL else 1.0
    chosen: list[Dialogue] = []
    for materials in cycle((2, 3, 4, 5)):
        shape = Shape(materials, absent_share=absent_share, elsewhere_share=1.0, cite_share=0.0)
        drawn = dialogue(rng, Split.HELD_OUT, language, shape)
        chosen += [drawn] if drawn.turns[0].trap is trap else []
        if len(chosen) == count:
            break
    return chosen


def _trap(asked: Fact, facts: list[Fact]) -> Trap | None:
    """Find the trap that a question sets over these facts, if any."""
    owners = {fact.entity for fact in facts if fact.attribute is asked.attribute}
    if not owners - {asked.entity}:
        return None
    if asked.entity in owners:
        return Trap.SEVERAL
    return Trap.ANOTHER if asked.entity in {fact.entity for fact in facts} else Trap.STRANGER


def _materials(names: Names, language: Language, shape: Shape) -> tuple[tuple[str, ...], list[Fact]]:
    """Make materials about few entities; in some dialogues several have the same attribute."""
    rng = names.rng
    entities = [
        entity_of(names, language) for _ in range(rng.randint(max(1, shape.materials // 2), shape.materials))
    ]
    shared = rng.random() < shape.same_attribute_share
    attributes = rng.sample(ATTRIBUTES, rng.randint(3, 6) if shared else 2 * shape.materials + 2)
    texts: list[str] = []
    facts: list[Fact] = []
    free = {entity: rng.sample(attributes, len(attributes)) for entity in entities}
    glue = "" if language == "zh" else " "
    for number in range(1, shape.materials + 1):
        entity = rng.choice([e for e in entities if free[e]] or [_added(names, language, free, attributes)])
        attribute = _taken(free, entity, shared=shared)
        value = value_of(attribute, names, language)
        facts.append(Fact(entity, attribute, value, number))
        parts = [statement(attribute, entity, value, names, language)]
        if free[entity] and rng.random() < shape.second_fact_share:
            attribute = _taken(free, entity, shared=shared)
            value = value_of(attribute, names, language)
            facts.append(Fact(entity, attribute, value, number))
            parts.append(continued(attribute, entity, value, names, language))
        if rng.random() < shape.filler_share:
            filler = rng.choice(ZH_FILLERS if language == "zh" else EN_FILLERS)
            parts.insert(rng.choice((0, len(parts))), filler)
        texts.append(glue.join(parts))
    return tuple(texts), facts


def _taken(free: dict[str, list[Attribute]], entity: str, *, shared: bool) -> Attribute:
    attribute = free[entity].pop()
    if not shared:
        for rest in free.values():
            if attribute in rest:
                rest.remove(attribute)
    return attribute


def _added(
    names: Names, language: Language, free: dict[str, list[Attribute]], attributes: list[Attribute]
) -> str:
    entity = entity_of(names, language)
    free[entity] = list(attributes)
    return entity


def _absent(names: Names, language: Language, facts: list[Fact], elsewhere_share: float) -> Fact:
    """Ask what no material answers: an attribute that none states, or of another entity only."""
    rng = names.rng
    known = rng.choice(facts)
    if rng.random() < elsewhere_share:
        others = {fact.entity for fact in facts} - {
            fact.entity for fact in facts if fact.attribute is known.attribute
        }
        if others and rng.random() < 0.5:
            return Fact(rng.choice(sorted(others)), known.attribute, "", 0)
        return Fact(entity_of(names, language), known.attribute, "", 0)
    stated = {fact.attribute.zh for fact in facts}
    return Fact(
        known.entity, rng.choice([attribute for attribute in ATTRIBUTES if attribute.zh not in stated]), "", 0
    )

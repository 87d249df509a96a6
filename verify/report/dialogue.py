"""Transcripts by dialogue: the source's answers next to each artifact's, with the words that differ."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from verify.report import Report, Scenarios
    from verify.scenarios.transcript import Exchange, Outcome, Transcript

Key = tuple[str, str, str]
# A word, a number, a character of a script without spaces, or a mark; and what separates them.
_PIECE = re.compile(r"[^\W\d_\u3400-\u9fff]+|\d+|\s+|.", re.DOTALL)
# Of the pieces of an answer; longer ones are compared by lines, which takes no time to speak of.
MOST_PIECES = 1500
SOURCE = None  # its place among the names of artifacts


@dataclass(frozen=True)
class Span:
    """Some words of an answer, and whether the source says them too."""

    text: str
    is_same: bool = True


@dataclass(frozen=True)
class Answer:
    """What one or several models said in a turn: those with the same answer share a column."""

    names: tuple[str, ...]
    spans: tuple[Span, ...]
    exchange: Exchange
    is_source: bool
    is_same: bool  # as the source's
    failed: tuple[Outcome, ...]
    passed: tuple[Outcome, ...]


@dataclass(frozen=True)
class Turn:
    """What was said to all models, and what they said."""

    user: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Dialogue:
    """One dialogue with all models."""

    key: Key
    turns: tuple[Turn, ...]
    passed: tuple[str, ...]  # names
    lost: tuple[str, ...]  # that failed where the source passed, or there is none
    failed: tuple[str, ...]  # as the source did
    differs: bool


def dialogues(report: Report) -> Iterator[Dialogue]:
    """Yield every dialogue that was held with anyone; those that an artifact lost come first."""
    held: dict[str | None, Mapping[Key, Transcript]] = {SOURCE: answers(report.source.scenarios)}
    held |= {each.name: answers(each.scenarios) for each in report.artifacts}
    keys = dict.fromkeys(found for transcripts in held.values() for found in transcripts)
    found = [
        _dialogue(
            each, {name: transcripts[each] for name, transcripts in held.items() if each in transcripts}
        )
        for each in keys
    ]
    return iter(sorted(found, key=lambda one: (not one.lost, not one.differs)))


def answers(scenarios: Scenarios | None) -> dict[Key, Transcript]:
    """Return transcripts by dialogue."""
    return {key(each): each for each in (scenarios.transcripts if scenarios else ())}


def key(transcript: Transcript) -> Key:
    """Return what identifies a dialogue: scenario, language and name."""
    return transcript.scenario, transcript.language, transcript.dialogue


def _dialogue(which: Key, held: Mapping[str | None, Transcript]) -> Dialogue:
    others = {name: each for name, each in held.items() if name is not None}
    source = held.get(SOURCE)
    longest = max(held.values(), key=lambda one: len(one.exchanges))
    turns = tuple(_turn(number, held) for number in range(len(longest.exchanges)))
    bad = [name for name, each in others.items() if not each.passed]
    is_lost = source is None or source.passed
    return Dialogue(
        which,
        turns,
        tuple(name for name in others if name not in bad),
        tuple(bad) if is_lost else (),
        () if is_lost else tuple(bad),
        any(not each.is_same for turn in turns for each in turn.answers),
    )


def _turn(number: int, held: Mapping[str | None, Transcript]) -> Turn:
    said = {name: each.exchanges[number] for name, each in held.items() if number < len(each.exchanges)}
    source = said.get(SOURCE)
    together: dict[tuple[object, ...], list[str | None]] = {}
    for name, each in said.items():
        together.setdefault((each.answer, each.end, each.checks, name is SOURCE), []).append(name)
    found = [_answer(names, said[names[0]], source) for names in together.values()]
    return Turn(next(iter(said.values())).user, tuple(found))


def _answer(names: Sequence[str | None], exchange: Exchange, source: Exchange | None) -> Answer:
    is_same = source is not None and exchange.answer == source.answer
    spans = (Span(exchange.answer),) if source is None or is_same else marked(exchange.answer, source.answer)
    return Answer(
        tuple(filter(None, names)), tuple(spans), exchange, SOURCE in names, is_same,
        tuple(check for check in exchange.checks if not check.passed),
        tuple(check for check in exchange.checks if check.passed),
    )  # fmt: skip


def marked(answer: str, source: str) -> tuple[Span, ...]:
    """Part an answer into what the source says too and what it does not, in order."""
    own, theirs = _PIECE.findall(answer), _PIECE.findall(source)
    if max(len(own), len(theirs)) > MOST_PIECES:
        own, theirs = answer.splitlines(keepends=True), source.splitlines(keepends=True)
    spans: list[Span] = []
    at = 0
    for block in SequenceMatcher(None, theirs, own, autojunk=False).get_matching_blocks():
        if block.b > at:
            spans.append(Span("".join(own[at : block.b]), is_same=False))
        if block.size:
            spans.append(Span("".join(own[block.b : block.b + block.size])))
        at = block.b + block.size
    return tuple(_joined(spans))


def _joined(spans: Sequence[Span]) -> Iterator[Span]:
    """Join marks that only white space separates, so that a changed phrase is one mark."""
    waiting: Span | None = None
    for place, span in enumerate(spans):
        after = spans[place + 1] if place + 1 < len(spans) else None
        between = waiting and not waiting.is_same and span.text.isspace() and after and not after.is_same
        now = Span(span.text, is_same=span.is_same and not between)
        if waiting and waiting.is_same == now.is_same:
            waiting = Span(waiting.text + now.text, now.is_same)
        else:
            if waiting:
                yield waiting
            waiting = now
    if waiting:
        yield waiting

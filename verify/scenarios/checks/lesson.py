"""Checks of lessons and their revisions: sections, Markdown, what was kept and what was changed, facts."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from statistics import fmean

from pydantic import Field

from convert.recipe.model import Strict
from verify.scenarios import outline
from verify.scenarios.checks.registry import Seen, Verdict, bad, check, right
from verify.scenarios.wording import IS_CJK, ngrams, terms
from verify.scenarios.wording import sentences as split

# What sections are called; any other name that a pack gives is looked for as it is written.
TITLES: dict[str, tuple[str, ...]] = {
    "goals": ("目标", "目的", "goal", "objective", "outcome", "aims"),
    "content": (
        "主要内容",
        "教学内容",
        "课程内容",
        "内容",
        "大纲",
        "知识点",
        "教学过程",
        "content",
        "outline",
        "topics",
        "main part",
    ),
    "quiz": ("测验", "测试", "小测", "练习", "考核", "检测", "quiz", "test", "assessment", "questions"),
    "activities": ("活动", "互动", "实验", "activit", "experiment", "exercise", "hands-on"),
    "summary": ("总结", "小结", "回顾", "summary", "review", "recap", "conclusion"),
    "materials": ("教具", "材料", "准备", "materials", "equipment", "resources"),
    "homework": ("作业", "课后", "homework", "assignment"),
}
MIN_KEPT = 0.5  # of a line's terms, so that the line counts as kept
SAME = 0.95
_LABEL = re.compile(
    r"\s*(?:#|[-*+]\s|\d+[.、)]|[(（]?[A-Ha-h][.、)）]|.*[?？]\s*$|\*\*[^*]*\*\*\s*$|(?:正确)?答案|answer)",
    re.IGNORECASE,
)


class Former(Strict):
    """Which former answer, and which part of it."""

    of: int = Field(default=-1, description="The turn, from 1; -1 is the one before.", examples=[1])
    section: str | None = Field(
        default=None, description="A section of it, e.g. content.", examples=["content"]
    )

    def text(self, seen: Seen) -> str:
        """What the answer is compared with."""
        if not seen.earlier:
            return ""
        return part(seen.earlier[self.of - 1 if self.of > 0 else self.of], self.section)


class Keeps(Former):
    """How much of a former answer a revision keeps."""

    share: float = Field(default=0.5, ge=0, le=1, description="The share of its lines.", examples=[0.5])


class Longer(Former):
    """How much longer a revision is."""

    times: float = Field(default=1.2, ge=1, le=100, description="So many times as long.", examples=[1.2])


class Shape(Strict):
    """How much structure is wanted."""

    headings: int = Field(default=0, ge=0, le=100, description="At least so many headings.", examples=[3])
    items: int = Field(default=0, ge=0, le=1000, description="At least so many list items.", examples=[3])


def part(text: str, name: str | None) -> str:
    """A section's text, or the whole where no section is named or there is none of that name."""
    found = outline.find(text, titles(name)) if name else None
    return found.text if found and found.text else text


def titles(name: str) -> tuple[str, ...]:
    """What a section may be called."""
    return TITLES.get(name, (name,))


@check(tuple[str, ...], example=["goals", "content", "quiz"])
def sections(seen: Seen, wanted: tuple[str, ...]) -> Verdict:
    """The sections asked for are there, with something in each."""
    for name in wanted:
        section = outline.find(seen.answer, titles(name))
        if section is None:
            return bad(f"no section {name}")
        if not terms(section.text):
            return bad(f"nothing under {section.title}")
    return right()


@check(Shape, example={"headings": 3, "items": 3})
def markdown(seen: Seen, wanted: Shape) -> Verdict:
    """The answer is Markdown that parses, with headings, lists and consecutive numbers."""
    read = outline.parse(seen.answer)
    if read.faults:
        return bad(read.faults[0])
    if len(read.headings) < wanted.headings:
        return bad(f"{len(read.headings)} headings, {wanted.headings} wanted")
    if read.items < wanted.items:
        return bad(f"{read.items} list items, {wanted.items} wanted")
    for numbering in read.lists:
        if not numbering.is_consecutive:
            return bad(f"numbered {', '.join(map(str, numbering.numbers))}")
    return right(f"{len(read.headings)} headings, {read.items} list items")


@check(Keeps, example={"of": 1, "section": "content", "share": 0.5})
def keeps(seen: Seen, wanted: Keeps) -> Verdict:
    """A revision keeps what it was not asked to change."""
    former = [grams for line in wanted.text(seen).split("\n") if (grams := ngrams(line))]
    if not former:
        return bad("there is no former answer to keep anything of")
    now = ngrams(seen.answer)
    kept = sum(len(grams & now) >= MIN_KEPT * len(grams) for grams in former)
    told = f"{kept} of {len(former)} lines kept"
    return right(told) if kept >= wanted.share * len(former) else bad(told)


@check(Longer, example={"of": 1, "section": "content", "times": 1.2})
def longer(seen: Seen, wanted: Longer) -> Verdict:
    """A revision that was asked for more says more."""
    before, now = len(terms(wanted.text(seen))), len(terms(part(seen.answer, wanted.section)))
    if not before:
        return bad("there is no former answer to be longer than")
    told = f"{now} words after {before}"
    return right(told) if now >= wanted.times * before else bad(told)


@check(Former, example={"of": -1})
def simpler(seen: Seen, wanted: Former) -> Verdict:
    """A simpler version has shorter sentences or shorter words, is about the same, and is another text."""
    former = wanted.text(seen)
    if not terms(former) or not terms(seen.answer):
        return bad("there is nothing to compare")
    if _is_same(former, seen.answer):
        return bad("says the same again")
    if not ngrams(former) & ngrams(seen.answer):
        return bad("is about something else")
    before, now = _sentence_length(former), _sentence_length(seen.answer)
    long_before, long_now = _word_length(former), _word_length(seen.answer)
    if now < before or (long_now and long_now < long_before):
        return right(f"{now:.1f} words a sentence after {before:.1f}")
    return bad(f"{now:.1f} words a sentence after {before:.1f}")


@check(Former, example={"of": -1})
def changed(seen: Seen, wanted: Former) -> Verdict:
    """A revision is not the former text again."""
    former = wanted.text(seen)
    if _is_same(former, seen.answer):
        return bad("says the same again")
    return right()


@check()
def facts(seen: Seen, _: bool) -> Verdict:
    """Nothing contradicts the pack's table of facts; what is not mentioned is no fault."""
    for fact in seen.facts:
        if found := fact.contradictions(seen.answer):
            return bad(f"{fact.name}: {found[0]}")
    return right()


def _is_same(former: str, now: str) -> bool:
    before, after = terms(former), terms(now)
    return before == after or SequenceMatcher(None, before, after, autojunk=False).ratio() > SAME


def _sentence_length(text: str) -> float:
    """Terms in a sentence on average; headings, options and short labels are no sentences."""
    lengths = [
        len(terms(sentence))
        for line in text.split("\n")
        if not _LABEL.match(line)
        for sentence in split(line)
        if terms(sentence)
    ]
    return fmean(lengths or [len(terms(text))])


def _word_length(text: str) -> float:
    words = [word for word in terms(text) if word.isalpha() and not IS_CJK.match(word)]
    return fmean(map(len, words)) if words else 0.0

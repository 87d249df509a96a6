"""Checks of lessons and their revisions: sections, Markdown, what was kept or changed, facts."""

import re
from difflib import SequenceMatcher
from itertools import pairwise
from statistics import fmean

from pydantic import Field

from convert.recipe.strict import Strict
from verify.scenarios import outline
from verify.scenarios.checks.registry import Context, Verdict, bad, check, right
from verify.scenarios.wording import IS_CJK, ngrams, terms
from verify.scenarios.wording import sentences as split

# Titles of sections; any other name in a pack is looked for as it is written.
_TITLES = """
goals: 目标|目的|goal|objective|outcome|aims
content: 主要内容|教学内容|课程内容|内容|大纲|知识点|教学过程|content|outline|topics|main part
quiz: 测验|测试|小测|练习|考核|检测|quiz|test|assessment|questions
activities: 活动|互动|实验|activit|experiment|exercise|hands-on
summary: 总结|小结|回顾|summary|review|recap|conclusion
materials: 教具|材料|准备|materials|equipment|resources
homework: 作业|课后|homework|assignment
"""
TITLES = {
    name: tuple(titles.split("|"))
    for name, _, titles in (line.partition(": ") for line in _TITLES.strip().splitlines())
}
MIN_KEPT = 0.5  # of a line's terms, so that the line counts as kept
SAME = 0.95
MAX_COMPARED = 1000  # terms; comparing two texts takes the product of their lengths
_LABEL = re.compile(
    r"\s*(?:#|[-*+]\s|\d+[.、)]|[(（]?[A-Ha-h][.、)）]|.*[?？]\s*$|\*\*[^*]*\*\*\s*$|(?:正确)?答案|answer)",
    re.IGNORECASE,
)


class Earlier(Strict):
    """An earlier answer, or a part of it."""

    of: int = Field(default=-1, description="The turn, from 1; -1 is the one before.", examples=[1])
    section: str | None = Field(
        default=None, description="A section of it, e.g. content.", examples=["content"]
    )

    def text(self, context: Context) -> str:
        """Return the text to compare the answer with."""
        if not context.earlier:
            return ""
        return part(context.earlier[self.of - 1 if self.of > 0 else self.of], self.section)


class Keeps(Earlier):
    """How much of an earlier answer a revision keeps."""

    share: float = Field(default=0.5, ge=0, le=1, description="The share of its lines.", examples=[0.5])


class Longer(Earlier):
    """How much longer a revision is."""

    times: float = Field(default=1.2, ge=1, le=100, description="So many times as long.", examples=[1.2])


class Shape(Strict):
    """How much structure is wanted."""

    headings: int = Field(default=0, ge=0, le=100, description="At least so many headings.", examples=[3])
    items: int = Field(default=0, ge=0, le=1000, description="At least so many list items.", examples=[3])


def part(text: str, name: str | None) -> str:
    """Return a section's text, or the whole text without a section of that name."""
    found = outline.find(text, titles(name)) if name else None
    return found.text if found and found.text else text


def titles(name: str) -> tuple[str, ...]:
    """Return the titles that a section may have."""
    return TITLES.get(name, (name,))


@check(tuple[str, ...], example=["goals", "content", "quiz"])
def sections(context: Context, wanted: tuple[str, ...]) -> Verdict:
    """Check that the sections are there, with something in each."""
    for name in wanted:
        section = outline.find(context.answer, titles(name))
        if section is None:
            return bad(f"no section {name}")
        if not terms(section.text):
            return bad(f"nothing under {section.title}")
    return right()


@check(Shape, example={"headings": 3, "items": 3})
def markdown(context: Context, wanted: Shape) -> Verdict:
    """Check that the answer is sound Markdown, with headings, lists and consecutive numbers."""
    read = outline.parse(context.answer)
    if read.faults:
        return bad(read.faults[0])
    if len(read.headings) < wanted.headings:
        return bad(f"{len(read.headings)} headings, {wanted.headings} wanted")
    if read.items < wanted.items:
        return bad(f"{read.items} list items, {wanted.items} wanted")
    for numbers in read.lists:
        if any(after != before + 1 for before, after in pairwise(numbers)):
            return bad(f"numbered {', '.join(map(str, numbers))}")
    return right(f"{len(read.headings)} headings, {read.items} list items")


@check(Keeps, example={"of": 1, "section": "content", "share": 0.5})
def keeps(context: Context, wanted: Keeps) -> Verdict:
    """Check that a revision keeps what it was not asked to change."""
    earlier = [grams for line in wanted.text(context).split("\n") if (grams := ngrams(line))]
    if not earlier:
        return bad("there is no earlier answer to compare with")
    now = ngrams(context.answer)
    kept = sum(len(grams & now) >= MIN_KEPT * len(grams) for grams in earlier)
    return Verdict(kept >= wanted.share * len(earlier), f"{kept} of {len(earlier)} lines kept")


@check(Longer, example={"of": 1, "section": "content", "times": 1.2})
def longer(context: Context, wanted: Longer) -> Verdict:
    """Check that an expanded answer is longer."""
    before, now = len(terms(wanted.text(context))), len(terms(part(context.answer, wanted.section)))
    if not before:
        return bad("there is no earlier answer to compare with")
    return Verdict(now >= wanted.times * before, f"{now} words after {before}")


@check(Earlier, example={"of": -1})
def simpler(context: Context, wanted: Earlier) -> Verdict:
    """Check that a simpler version has shorter sentences or words, the same topic, and another text."""
    earlier = wanted.text(context)
    if not terms(earlier) or not terms(context.answer):
        return bad("there is nothing to compare")
    if _is_same(earlier, context.answer):
        return bad("is the same text again")
    if not ngrams(earlier) & ngrams(context.answer):
        return bad("is about something else")
    before, now = _sentence_length(earlier), _sentence_length(context.answer)
    long_before, long_now = _word_length(earlier), _word_length(context.answer)
    is_simpler = now < before or 0 < long_now < long_before
    return Verdict(is_simpler, f"{now:.1f} words a sentence after {before:.1f}")


@check(Earlier, example={"of": -1})
def changed(context: Context, wanted: Earlier) -> Verdict:
    """Check that a revision is not the same text again."""
    return bad("is the same text again") if _is_same(wanted.text(context), context.answer) else right()


@check()
def facts(context: Context, _: bool) -> Verdict:
    """Check that nothing contradicts the pack's facts; they need not be mentioned."""
    for fact in context.facts:
        if found := fact.contradictions(context.answer):
            return bad(f"{fact.name}: {found[0]}")
    return right()


def _is_same(earlier: str, now: str) -> bool:
    before, after = terms(earlier), terms(now)
    if before == after:
        return True
    before, after = before[:MAX_COMPARED], after[:MAX_COMPARED]
    return SequenceMatcher(None, before, after, autojunk=False).ratio() > SAME


def _sentence_length(text: str) -> float:
    """Return the mean number of terms in a sentence; headings, options and labels do not count."""
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

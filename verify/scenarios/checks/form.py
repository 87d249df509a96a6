"""Checks of any answer: something is said, in the right language, once, in the model's own words."""

from __future__ import annotations

from collections import Counter

import regex

from verify.scenarios.checks.registry import Seen, Verdict, bad, check, right
from verify.scenarios.wording import IS_CJK, fold, sentences, terms

MARKUP = regex.compile(
    r"<\|[^<>|\n]{1,40}\|>|<｜[^<>\n]{1,40}｜>|</?s>|</?(?:start|end)_of_turn>|\[/?INST\]|<</?SYS>>|###\s*(?:Instruction|Response)"
)
_ROLE_LINE = regex.compile(
    r"^\s*(?:问题|资料|用户|助手|question|materials?|user|human|assistant|system)\s*[:：]",
    regex.IGNORECASE | regex.MULTILINE,
)
# A sentence of the prompt shorter than this may be said by chance.
MIN_ECHO_CHARS = 8
MIN_MATERIAL_CHARS = 20
MAX_PERIOD = 60  # terms
MIN_RUN = 14  # terms that a repetition covers before it counts
MIN_REPEATS = 4
NGRAM = 6
MIN_TERMS = 60
MIN_DISTINCT_SHARE = 0.5


@check()
def not_empty(seen: Seen, _: bool) -> Verdict:
    """The answer says something."""
    if terms(seen.answer):
        return right()
    return bad("only signs" if seen.answer.strip() else "empty, or nothing was left after tidying")


@check()
def no_echo(seen: Seen, _: bool) -> Verdict:
    """The answer does not give the prompt back, nor a template's markup."""
    if found := MARKUP.search(seen.answer):
        return bad(f"chat markup: {found[0]}")
    if found := _ROLE_LINE.search(seen.answer):
        return bad(f"a line of the prompt's own: {found[0].strip()}")
    answer = fold(seen.answer)
    for sentence in sentences(seen.instruction):
        said = fold(sentence)
        if len(said) >= MIN_ECHO_CHARS and said in answer:
            return bad(f"repeats the prompt: {sentence[:60]}")
    pasted = [
        text for text in map(fold, seen.materials) if len(text) >= MIN_MATERIAL_CHARS and text in answer
    ]
    if len(pasted) > 1 and sum(map(len, pasted)) > len(answer) / 2:
        return bad(f"{len(pasted)} whole materials pasted")
    return right()


@check()
def no_runaway(seen: Seen, _: bool) -> Verdict:
    """The answer does not go round in circles."""
    lines = Counter(" ".join(terms(line)) for line in seen.answer.split("\n"))
    line, times = max(lines.items(), key=lambda item: item[1] if len(item[0]) >= MIN_ECHO_CHARS else 0)
    if times >= MIN_REPEATS and len(line) >= MIN_ECHO_CHARS:
        return bad(f"the same line {times} times: {line[:40]}")
    words = terms(seen.answer)
    for period in range(1, min(MAX_PERIOD, len(words) // MIN_REPEATS) + 1):
        start = _periodic(words, period)
        if start is not None:
            return bad(f"says again and again: {' '.join(words[start : start + period])[:40]}")
    grams = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
    if len(words) >= MIN_TERMS and len(set(grams)) < MIN_DISTINCT_SHARE * len(grams):
        return bad(f"only {len(set(grams))} of {len(grams)} passages of {NGRAM} words are different")
    return right()


def _periodic(words: list[str], period: int) -> int | None:
    """Where a stretch begins that repeats itself after `period` terms, often enough and long enough."""
    needed = max(MIN_RUN, period * MIN_REPEATS) - period
    run = 0
    for at in range(period, len(words)):
        run = run + 1 if words[at] == words[at - period] else 0
        if run >= needed:
            return at - run - period + 1
    return None


@check()
def in_language(seen: Seen, _: bool) -> Verdict:
    """The answer is in the language of the question."""
    chinese = len(IS_CJK.findall(seen.answer))
    latin = sum(word.isalpha() and not IS_CJK.match(word) for word in terms(seen.answer))
    if chinese + latin < 2:
        return right("too short to tell")
    share = chinese / (chinese + latin)
    is_right = share >= 0.5 if seen.language == "zh" else share <= 0.2
    return right() if is_right else bad(f"{share:.0%} of the words are Chinese")


@check()
def ends(seen: Seen, _: bool) -> Verdict:
    """A chat model ends its answer itself; one that lost its end-of-turn token talks on."""
    if not seen.is_chat:
        return right("a completion model need not")
    return bad("went on to the limit of tokens") if seen.end == "length" else right()

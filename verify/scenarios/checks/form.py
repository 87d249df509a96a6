"""Checks of any answer: it says something, in the right language, once, in the model's own words."""

from collections import Counter

import regex

from verify.decoding import MARKS
from verify.scenarios.checks.registry import Context, Verdict, bad, check, right
from verify.scenarios.wording import CHAT_MARKUP, IS_CJK, fold, sentences, terms

MARKUP = regex.compile(rf"{CHAT_MARKUP}|###\s*(?:Instruction|Response)")
_ROLE_LINE = regex.compile(
    r"^\s*(?:问题|资料|用户|助手|question|materials?|user|human|assistant|system)\s*[:：]",
    regex.IGNORECASE | regex.MULTILINE,
)
_LINE_NUMBER = regex.compile(rf"^[{MARKS}]*\d+", regex.MULTILINE)
# A shorter sentence of the prompt may be repeated by chance.
MIN_ECHO_CHARS = 8
MIN_MATERIAL_CHARS = 20
MAX_PERIOD = 60  # terms
MIN_RUN = 14  # terms that a repetition covers before it counts
MIN_REPEATS = 4
NGRAM = 6
MIN_TERMS = 60
MIN_DISTINCT_SHARE = 0.5


@check()
def not_empty(context: Context, _: bool) -> Verdict:
    """Check that the answer says something."""
    if terms(context.answer):
        return right()
    return bad("only punctuation" if context.answer.strip() else "empty, or nothing was left after tidying")


@check()
def no_echo(context: Context, _: bool) -> Verdict:
    """Check that the answer repeats neither the prompt nor a template's markup."""
    if found := MARKUP.search(context.answer):
        return bad(f"chat markup: {found[0]}")
    if found := _ROLE_LINE.search(context.answer):
        return bad(f"a line of the prompt's own: {found[0].strip()}")
    answer = fold(context.answer)
    for sentence in sentences(context.instruction):
        said = fold(sentence)
        if len(said) >= MIN_ECHO_CHARS and said in answer:
            return bad(f"repeats the prompt: {sentence[:60]}")
    pasted = [
        text for text in map(fold, context.materials) if len(text) >= MIN_MATERIAL_CHARS and text in answer
    ]
    if len(pasted) > 1 and sum(map(len, pasted)) > len(answer) / 2:
        return bad(f"{len(pasted)} whole materials pasted")
    return right()


@check()
def no_runaway(context: Context, _: bool) -> Verdict:
    """Check that the answer does not repeat itself, under other numbers or none."""
    if context.is_chat and context.end == "loop":
        return bad("only repeated itself at last, and was ended")
    answer = _LINE_NUMBER.sub("", context.answer)
    lines = Counter(" ".join(terms(line)) for line in answer.split("\n"))
    line, times = max(lines.items(), key=lambda item: item[1] if len(item[0]) >= MIN_ECHO_CHARS else 0)
    if times >= MIN_REPEATS and len(line) >= MIN_ECHO_CHARS:
        return bad(f"the same line {times} times: {line[:40]}")
    words = terms(answer)
    for period in range(1, min(MAX_PERIOD, len(words) // MIN_REPEATS) + 1):
        start = _periodic(words, period)
        if start is not None:
            return bad(f"repeats: {' '.join(words[start : start + period])[:40]}")
    grams = [tuple(words[at : at + NGRAM]) for at in range(len(words) - NGRAM + 1)]
    if len(words) >= MIN_TERMS and len(set(grams)) < MIN_DISTINCT_SHARE * len(grams):
        return bad(f"only {len(set(grams))} of {len(grams)} passages of {NGRAM} words are different")
    return right()


def _periodic(words: list[str], period: int) -> int | None:
    """Find where a passage begins that repeats after `period` terms, often and long enough."""
    needed = max(MIN_RUN, period * MIN_REPEATS) - period
    run = 0
    for at in range(period, len(words)):
        run = run + 1 if words[at] == words[at - period] else 0
        if run >= needed:
            return at - run - period + 1
    return None


@check()
def in_language(context: Context, _: bool) -> Verdict:
    """Check that the answer is in the language of the question."""
    chinese = len(IS_CJK.findall(context.answer))
    latin = sum(word.isalpha() and not IS_CJK.match(word) for word in terms(context.answer))
    if chinese + latin < 2:
        return right("too short to tell")
    share = chinese / (chinese + latin)
    is_right = share >= 0.5 if context.language == "zh" else share <= 0.2
    return right() if is_right else bad(f"{share:.0%} of the words are Chinese")


@check()
def ends(context: Context, _: bool) -> Verdict:
    """Check that a chat model ends its answer; one that lost its end-of-turn token goes on."""
    if not context.is_chat:
        return right("not required of a completion model")
    went_on = {"length": "went on to the limit of tokens", "loop": "went on repeating itself"}
    return bad(went_on[context.end]) if context.end in went_on else right()

"""From a model's output to the answer that is checked; every change is recorded."""

from itertools import takewhile

import regex

from verify.scenarios.pack import Completion
from verify.scenarios.transcript import Step
from verify.scenarios.wording import ngrams

_THOUGHT = regex.compile(r"^\s*<think>.*?(?:</think>|\Z)", regex.DOTALL)
_PARAGRAPHS = regex.compile(r"\n\s*\n")
_STRUCTURE = regex.compile(r"\s*(?:#{1,6}\s|[-*+]\s|\d+[.)]\s|\||[A-H][.、)]|```)")
_BULLET = regex.compile(r"^(\s*)[•·●▪■◦○‣–]\s*(?=\S)", regex.MULTILINE)
_DASH = regex.compile(r"^(\s*)[-*](?=[^\s*\-\d.])", regex.MULTILINE)
_NUMBER = regex.compile(r"^(\s*)[(（]?(\d{1,2})(?:[、．)）]|\.(?=[^\s\d]))\s*(?=\S)", regex.MULTILINE)
_CIRCLED = regex.compile(r"^(\s*)([①-⑳])\s*", regex.MULTILINE)
_HEADING = regex.compile(r"^(\s{0,3}#{1,6})(?=[^\s#])", regex.MULTILINE)
# More than any question asks for. What comes after is not read, and cannot make a check slow.
MAX_CHARS = 32_768
MAX_BLANK = 64
_LONG_BLANK = regex.compile(rf"\s{{{MAX_BLANK + 1},}}")


def bounded(raw: str) -> tuple[str, tuple[Step, ...]]:
    """Cut an answer and its runs of white space to the length that checks are made for."""
    text = _LONG_BLANK.sub(lambda found: found[0][:MAX_BLANK], raw[:MAX_CHARS])
    if text == raw:
        return raw, ()
    return text, (Step("shortened", f"{len(text)} of {len(raw)} characters"),)


def tidy_chat(raw: str) -> tuple[str, tuple[Step, ...]]:
    """Remove thoughts, which a template would not show either, and nothing else."""
    text = _THOUGHT.sub("", raw)
    steps = (Step("thoughts left out", f"{len(raw) - len(text)} characters"),) if text != raw else ()
    text, cut = bounded(text)
    return text.strip(), steps + cut


def tidy_completion(raw: str, style: Completion, context: str) -> tuple[str, tuple[Step, ...]]:
    """Cut at the next question, drop paragraphs about something else, repair lists."""
    text, cut = bounded(raw)
    steps = [*cut]
    text = text.strip()
    for name, change in (
        ("cut at the next question", lambda text: _cut(text, style)),
        ("unrelated paragraphs dropped", lambda text: _related(text, context)),
        ("list markup repaired", _repaired),
    ):
        done = change(text).strip()
        if done != text:
            steps.append(Step(name, _difference(text, done)))
        text = done
    return text, tuple(steps)


def _cut(text: str, style: Completion) -> str:
    text = text.removeprefix(style.cue).lstrip()
    return "\n".join(takewhile(lambda line: not line.strip().startswith(style.next), text.split("\n")))


def _related(text: str, context: str) -> str:
    """Keep the first paragraph, and those that share a term with what came before."""
    known = ngrams(context)
    kept: list[str] = []
    for paragraph in _PARAGRAPHS.split(text):
        grams = ngrams(paragraph)
        if not kept or _STRUCTURE.match(paragraph) or grams & known:
            kept.append(paragraph)
            known |= grams
    return "\n\n".join(kept)


def _repaired(text: str) -> str:
    """Repair the marks, never a number: a list that counts wrongly stays wrong."""
    text = _CIRCLED.sub(lambda found: f"{found[1]}{ord(found[2]) - ord('①') + 1}. ", text)
    text = _NUMBER.sub(lambda found: f"{found[1]}{int(found[2])}. ", text)
    text = _BULLET.sub(r"\1- ", text)
    text = _DASH.sub(r"\1- ", text)
    text = _HEADING.sub(r"\1 ", text)
    return f"{text}\n```" if text.count("```") % 2 else text


def _difference(before: str, after: str) -> str:
    """Say what was removed, or how much changed."""
    if before.startswith(after):
        gone = before[len(after) :].strip()
        return f"left out: {gone if len(gone) <= 200 else gone[:197] + '...'}"
    changed = sum(a != b for a, b in zip(before.split("\n"), after.split("\n"), strict=False))
    return f"{len(before)} to {len(after)} characters, {changed} lines changed"

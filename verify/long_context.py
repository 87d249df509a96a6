"""A long text: how well each part of it is foretold, and whether what was said early is found again."""

from __future__ import annotations

from bisect import bisect
from dataclasses import dataclass, replace
from itertools import pairwise
from math import exp
from typing import TYPE_CHECKING

from verify.logprobs import foretold
from verify.runtimes import Request
from verify.texts import entries, text_of

if TYPE_CHECKING:
    from verify.logprobs import Foretold
    from verify.worker import Launch, Worker

PARTS = 8  # of the window
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
ROOM = 64  # tokens, for the question, its markup and the answer
ANSWER = 24
CODES = (481_516, 702_938, 265_017, 934_601, 158_294)
PLACES = ("green", "silver", "striped", "hollow", "painted")
MOST_SURPRISAL = 700.0  # beyond it exp overflows


@dataclass(frozen=True)
class Part:
    """A stretch of positions, and the perplexity of their tokens."""

    start: int
    stop: int
    ppl: float
    ppl_source: float
    top1: float  # the share of positions where both have the same most likely token


@dataclass(frozen=True)
class Found:
    """A number that was hidden at some depth of the window, and who gave it when asked at the end."""

    depth: float  # 0: at the beginning
    by_source: bool
    by_artifact: bool


@dataclass(frozen=True)
class LongContext:
    """One artifact's figures next to its source's."""

    tokens: int
    parts: tuple[Part, ...]
    depths: tuple[Found, ...]


@dataclass(frozen=True)
class LongText:
    """What is asked of every model, and what the source answered."""

    ids: tuple[int, ...]
    questions: tuple[tuple[float, str, str], ...]  # depth, text with the question, the right number
    context: int  # tokens that it was opened with
    is_chat: bool
    foretold: Foretold
    found: tuple[bool, ...]


def ask_source(worker: Worker, tokens: int, *, is_chat: bool) -> LongText:
    """Make the text by the source's tokenizer, and ask the source."""
    tokens = min(tokens, worker.info.context)
    ids = tuple(worker.tokenize(text_of("long", tokens))[:tokens])
    questions = tuple(
        (depth, _hidden(worker, tokens - ROOM, depth, place, code), str(code))
        for depth, place, code in zip(DEPTHS, PLACES, CODES, strict=True)
    )
    found = tuple(_is_found(worker, text, code, is_chat=is_chat) for _, text, code in questions)
    return LongText(ids, questions, tokens, is_chat, foretold(worker, ids, 0), found)


def launch_for_long(launch: Launch, tokens: int) -> Launch:
    """Give a model a context of so many tokens."""
    return replace(launch, settings=replace(launch.settings, context=tokens))


def ask_long(worker: Worker, text: LongText) -> LongContext:
    """Ask an artifact the same."""
    own, source, count = foretold(worker, text.ids, 0), text.foretold, len(text.ids) - 1
    edges = [count * number // PARTS for number in range(PARTS + 1)]
    parts = tuple(
        Part(
            start=start,
            stop=stop,
            ppl=_ppl(own, start, stop),
            ppl_source=_ppl(source, start, stop),
            top1=float((own.top[start:stop] == source.top[start:stop]).mean()),
        )
        for start, stop in pairwise(edges)
        if stop > start
    )
    depths = tuple(
        Found(depth, by_source, _is_found(worker, words, code, is_chat=text.is_chat))
        for (depth, words, code), by_source in zip(text.questions, text.found, strict=True)
    )
    return LongContext(len(text.ids), parts, depths)


def _ppl(found: Foretold, start: int, stop: int) -> float:
    return exp(min(float(found.surprisal[start:stop].mean()), MOST_SURPRISAL))


def _hidden(worker: Worker, tokens: int, depth: float, place: str, code: int) -> str:
    """Write as many entries as fit, one with the number at its depth, and the question."""
    fact = f"The number of the {place} locker is {code}. Remember it."
    question = f"What is the number of the {place} locker? The number of the {place} locker is"
    book = entries()
    # Found by halving: how many tokens an entry has, the tokenizer knows.
    known = [next(book) for _ in range(max(2, tokens // 8))]

    def text(count: int) -> str:
        lines = known[:count]
        lines.insert(round(depth * count), fact)
        return "\n".join((*lines, "", question))

    return text(bisect(range(1, len(known) + 1), tokens, key=lambda count: len(worker.tokenize(text(count)))))


def _is_found(worker: Worker, text: str, code: str, *, is_chat: bool) -> bool:
    request = Request(text=text, max_tokens=ANSWER)
    if is_chat:
        request = replace(request, text=None, messages=({"role": "user", "content": text},))
    return code in worker.answer(request)

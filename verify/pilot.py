"""A short measurement of an open model, from which the time that everything takes is computed."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from verify.logprobs import compare_rows, next_logits, room_for
from verify.runtimes import Request

if TYPE_CHECKING:
    from verify.task import Plan
    from verify.worker import Worker

PROMPT = 96  # tokens
ANSWER = 8
SEED = 0


@dataclass(frozen=True)
class Rates:
    """How long one model takes."""

    open_s: float
    read_s: float  # a token of a prompt
    window_s: float  # a window of the text, its odds compared
    token_s: float  # a token of an answer, several growing at once
    alone_s: float  # a token of an answer that grows alone
    seats: int = 1  # answers at once
    answers: bool = True  # it is asked dialogues
    waits: bool = False  # it stays open until it is asked
    opens_once: bool = False  # for its speed: it is the source, which answers one at a time
    itself: Rates | None = None  # the source's, where these are of a copy that answers in its place


@dataclass(frozen=True)
class Paced:
    """An open model, and how fast it is."""

    worker: Worker
    rates: Rates


def pilot(worker: Worker, plan: Plan) -> Rates:
    """Measure an open model for a few seconds, and once more where it was stopped meanwhile."""
    before_s = worker.stopped_s()
    rates = _rates(worker, plan)
    return rates if worker.stopped_s() == before_s else _rates(worker, plan)


def _rates(worker: Worker, plan: Plan) -> Rates:
    info, draw = worker.info, random.Random(SEED)  # noqa: S311  (no secret)
    prompt, answer = min(PROMPT, info.context // 2), max(2, min(ANSWER, info.context // 4))

    def request(length: int) -> Request:
        if "tokenize" not in info.can or not info.vocab_size:
            return Request(text="one two " * (length // 2), max_tokens=answer, ignores_end=True)
        ids = tuple(draw.randrange(info.vocab_size) for _ in range(length))
        return Request(ids=ids, max_tokens=answer, ignores_end=True)

    list(worker.generate(request(2)))  # what is done once is not counted
    times = [piece.t_s for piece in worker.generate(request(prompt))]
    read_s = times[0] / prompt
    alone_s = (times[-1] - times[0]) / max(1, len(times) - 1)
    window_s = _window_s(worker, request(prompt).ids or (), plan.window)
    # After everything else: what is opened for seats may be closed for that.
    seats = worker.seats() if "advance" in info.can else 1
    return Rates(
        open_s=worker.load_s,
        read_s=read_s,
        window_s=window_s,
        token_s=_token_s(worker, [request(2) for _ in range(seats)], answer) if seats > 1 else alone_s,
        alone_s=alone_s,
        seats=seats,
    )


def _window_s(worker: Worker, ids: tuple[int, ...], window: int) -> float:
    """Measure the odds of a few tokens, half of them compared, and count a whole window."""
    if "logits" not in worker.info.can or not ids:
        return 0.0
    target, room = np.zeros(1, np.int64), room_for(2, worker.info.vocab_size or 1)
    began_s = time.perf_counter()
    for scored in next_logits(worker, ids, len(ids) // 2):
        for row in scored:
            compare_rows(row[None], row[None], target, room)
    return (time.perf_counter() - began_s) * window / len(ids)


def _token_s(worker: Worker, requests: list[Request], answer: int) -> float:
    """Measure a few steps of all seats at once; the memory that these need is made before."""
    _answer_all(worker, [replace(each, max_tokens=1) for each in requests])
    began_s = time.perf_counter()
    _answer_all(worker, requests)
    return (time.perf_counter() - began_s) / (len(requests) * answer)


def _answer_all(worker: Worker, requests: list[Request]) -> None:
    left = len(requests) - len(worker.advance(list(enumerate(requests))))
    while left > 0:
        left -= len(worker.advance([]))

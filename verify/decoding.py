"""From logits to an answer: choose a token, turn bytes into text, stop at the right place."""

import codecs
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from verify.runtimes import Piece, Request

# A passage of at most so many tokens, which comes so many times and covers so many tokens. The check
# no_runaway fails an answer for as many of up to 60 words, and a chat's for having ended so.
LOOP_PERIOD = 128
LOOP_REPEATS = 4
LOOP_TOKENS = 64
# What may come before a line's number; and the token that each such number counts as.
MARKS = " \t\r*#-"
_MARKS = MARKS.encode()
NUMBER = -2
_PERIODS = np.arange(1, LOOP_PERIOD + 1)
_NEEDED = np.maximum(LOOP_TOKENS, LOOP_REPEATS * _PERIODS) - _PERIODS


class Sampler:
    """The choice of the next token: the most likely one, or a seeded draw; the same in every runtime."""

    def __init__(self, request: Request) -> None:
        self._temperature = request.temperature
        self._random = np.random.default_rng(request.seed)

    def choose(self, row: NDArray[np.float32]) -> int:
        """Choose by one row of logits."""
        if self._temperature <= 0:
            return int(row.argmax())
        scaled = row.astype(np.float64) / self._temperature
        weights = np.cumsum(np.exp(scaled - scaled.max()))
        return int(
            np.searchsorted(weights, self._random.random() * weights[-1], side="right").clip(max=len(row) - 1)
        )


class StopBuffer:
    """Text that is held back while it may be the beginning of a stop string."""

    def __init__(self, stops: Collection[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, piece: bytes) -> tuple[str, bool]:
        """Take the bytes of one token; return the text that is certain, and whether a stop was reached."""
        self._held += self._decoder.decode(piece)
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            text, self._held = self._held[: min(found)], ""
            return text, True
        keep = max((_overlap(self._held, stop) for stop in self._stops), default=0)
        certain = len(self._held) - keep
        text, self._held = self._held[:certain], self._held[certain:]
        return text, False

    def rest(self) -> str:
        """Return the text that was held back, once nothing more comes."""
        text, self._held = self._held + self._decoder.decode(b"", final=True), ""
        return text


class LoopWatch:
    """Notice when an answer only repeats itself: written greedily, it would go on so to its limit.

    A list whose lines differ only in their numbers is no less a repetition: 1. the same, 2. the same.
    """

    def __init__(self) -> None:
        self._begins_line, self._is_in_number = True, False
        # Tokens, the newest first, and for how long each was the same as the one a period before.
        self._last: NDArray[np.int64] = np.full(LOOP_PERIOD, -1)
        self._runs: NDArray[np.int64] = np.zeros(LOOP_PERIOD, np.int64)

    def add(self, token: int, piece: bytes) -> bool:
        """Take one token and its bytes; return whether a passage has come often enough."""
        is_number = self._begins_line and piece.strip(_MARKS).isdigit()
        if is_number and self._is_in_number:
            return False  # a number of several tokens counts as one: 9 is followed by 10
        self._is_in_number = is_number
        _, newline, begun = piece.rpartition(b"\n")
        self._begins_line = is_number or (not begun.strip(_MARKS) and (bool(newline) or self._begins_line))
        token = NUMBER if is_number else token
        self._runs = np.where(self._last == token, self._runs + 1, 0)
        self._last = np.roll(self._last, 1)
        self._last[0] = token
        return bool((self._runs >= _NEEDED).any())


class AnswerStream:
    """One answer as it grows, from tokens to pieces."""

    def __init__(self, request: Request, ends: Collection[int]) -> None:
        self._request = request
        self._ends = frozenset() if request.ignores_end else frozenset((*ends, *request.stop_ids))
        self._buffer = StopBuffer(() if request.ignores_end else request.stop)
        self._count = 0
        self._loop = LoopWatch() if request.stops_loops else None

    def add(self, token: int, piece: bytes, t_s: float) -> Piece:
        """Take one token; the piece that is returned says whether it is the last."""
        self._count += 1
        if token in self._ends:
            return Piece(token, self._buffer.rest(), t_s, "end")
        text, is_stopped = self._buffer.feed(piece)
        if is_stopped:
            return Piece(token, text, t_s, "stop")
        if self._count >= self._request.max_tokens:
            return Piece(token, text + self._buffer.rest(), t_s, "length")
        if self._loop and self._loop.add(token, piece):
            return Piece(token, text + self._buffer.rest(), t_s, "loop")
        return Piece(token, text, t_s)


def _overlap(text: str, stop: str) -> int:
    """Count the text's last characters that could begin the stop string."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if stop.startswith(text[-size:])), 0)

"""Several answers that grow together, a token of each in every step; a seat keeps what it has read.

The next turn of a dialogue begins with the turns before it, which are not read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from verify.decoding import AnswerStream, Sampler
from verify.runtimes import Finished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verify.runtimes import Info, Request

MOST_SEATS = 16
# Of keys and values, for all seats together.
CACHE_BYTES = 2 << 30


class Host(Protocol):
    """A runtime with a cache that has room for several texts."""

    info: Info

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one text from a position on, and return the logits after the last."""

    def step_seats(self, entries: Sequence[tuple[int, int, int]]) -> Sequence[NDArray[np.float32]]:
        """Read one token of each (seat, token, position), and return the logits after each."""

    def keep_seat(self, seat: int, count: int) -> int:
        """Forget what a seat has read but for the first tokens, and return how many are left."""


@dataclass
class _Going:
    """An answer under way."""

    sampler: Sampler
    answer: AnswerStream
    bytes_of: Callable[[int], bytes]
    text: str = ""
    made: int = 0


def seat_count(context: int, kv_bytes_per_token: int | None) -> int:
    """Return how many texts of a whole context fit, 1 where their size is not known."""
    if not kv_bytes_per_token:
        return 1
    return max(1, min(MOST_SEATS, CACHE_BYTES // (kv_bytes_per_token * context)))


class Seats:
    """The seats of one runtime."""

    def __init__(self, host: Host, stream: Callable[[], Callable[[int], bytes]]) -> None:
        self._host, self._stream = host, stream
        self._read: dict[int, list[int]] = {}  # the tokens in the cache
        self._going: dict[int, _Going] = {}
        self._next: dict[int, int] = {}  # the token that is to be read in the next step

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Begin with what is added, and go on until at least one answer is finished."""
        finished: list[Finished] = []
        for seat, request in added:
            finished += self._choose(seat, self._begin(seat, request))
        while self._going and not finished:
            entries = [(seat, self._next[seat], len(self._read[seat])) for seat in sorted(self._going)]
            rows = self._host.step_seats(entries)
            for (seat, token, _), row in zip(entries, rows, strict=True):
                self._read[seat].append(token)
                finished += self._choose(seat, row)
        return finished

    def _begin(self, seat: int, request: Request) -> NDArray[np.float32]:
        """Read the prompt from where it departs from what the seat has read before."""
        ids = list(request.ids or ())
        known = self._read.get(seat, [])
        kept = self._host.keep_seat(seat, min(_same(known, ids), len(ids) - 1))
        self._read[seat] = ids[:kept]
        row = self._host.read_seat(seat, ids[kept:], kept)
        self._read[seat] = ids
        self._going[seat] = _Going(
            Sampler(request), AnswerStream(request, self._host.info.eog_ids), self._stream()
        )
        return row

    def _choose(self, seat: int, row: NDArray[np.float32]) -> list[Finished]:
        """Choose a seat's next token; return the answer if that was its last."""
        going = self._going[seat]
        token = going.sampler.choose(row)
        piece = going.answer.add(token, going.bytes_of(token), 0.0)
        going.text += piece.text
        going.made += 1
        if piece.end is None:
            self._next[seat] = token
            return []
        del self._going[seat]
        return [Finished(seat, going.text, piece.end, going.made)]


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))

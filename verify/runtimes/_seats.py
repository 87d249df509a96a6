"""Several answers that grow together, some tokens of each in every step; a seat keeps what it has read.

The next turn of a dialogue begins with the turns before it, which are not read again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from verify.decoding import AnswerStream, Sampler
from verify.runtimes import Finished
from verify.runtimes._drafts import Draft, depth

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from verify.runtimes import Info, Request

MOST_SEATS = 16
# Of keys and values, for all seats together.
CACHE_BYTES = 2 << 30
# Texts of one kind begin alike. To copy what was read of another takes as long as to read fewer than these.
WORTH_COPYING = 32


class Host(Protocol):
    """A runtime with a cache that has room for several texts."""

    info: Info
    GUESSES: int  # the most tokens that are read on trial after the one that is known
    GUESSING_SEATS: int  # the most texts with which it can

    def tokenize(self, text: str, *, special: bool, add_bos: bool) -> list[int]:
        """Turn text into ids."""

    def read_seat(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one text from a position on, and return the logits after the last."""

    def step_seats(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read as many tokens of each seat, and return the logits after each."""

    def copy_seat(self, seat: int, other: int) -> bool:
        """Replace what a seat has read by what another has; return whether that can be done."""

    def keep_seat(self, seat: int, count: int) -> int:
        """Forget what a seat has read but for the first tokens, and return how many are left."""


@dataclass(frozen=True)
class Entry:
    """Tokens of one seat, and where the first comes."""

    seat: int
    tokens: Sequence[int]
    at: int


@dataclass
class _Going:
    """An answer under way."""

    sampler: Sampler
    answer: AnswerStream
    draft: Draft
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
        self._most_guesses = host.GUESSES

    def is_idle(self) -> bool:
        """Tell whether no answer is under way."""
        return not self._going

    def advance(self, added: Sequence[tuple[int, Request]]) -> list[Finished]:
        """Begin with what is added, and go on until at least one answer is finished."""
        finished: list[Finished] = []
        for seat, request in added:
            finished += self._choose(seat, self._begin(seat, request))
        while self._going and not finished:
            entries = self._entries()
            for entry, rows in zip(entries, self._host.step_seats(entries), strict=True):
                finished += self._check(entry, rows)
            self._forget_wrong(entries)
        return finished

    def _entries(self) -> list[Entry]:
        """Choose what each seat reads: its next token, and as many guesses as each other seat."""
        seats = sorted(self._going)
        room = self._host.info.context - 1 - max(len(self._read[seat]) for seat in seats)
        may_guess = len(seats) <= self._host.GUESSING_SEATS
        most = max(0, min(self._most_guesses, room)) if may_guess else 0
        guesses = {seat: self._going[seat].draft.guess(most) for seat in seats}
        count = depth([(len(guesses[seat]), self._going[seat].draft.trust) for seat in seats], most)
        return [
            Entry(seat, [token, *guess[:count], *[token] * (count - len(guess))], len(self._read[seat]))
            for seat, guess in guesses.items()
            for token in (self._next[seat],)
        ]

    def _check(self, entry: Entry, rows: Sequence[NDArray[np.float32]]) -> list[Finished]:
        """Choose a token by each row, for as long as what was read after it is what is chosen."""
        seat, read = entry.seat, self._read[entry.seat]
        for at, row in enumerate(rows):
            read.append(entry.tokens[at])
            if finished := self._choose(seat, row):
                return finished  # what was read beyond is forgotten when the seat is taken again
            if at + 1 == len(rows) or self._next[seat] != entry.tokens[at + 1]:
                break
        return []

    def _forget_wrong(self, entries: Sequence[Entry]) -> None:
        """Forget guesses that did not come true; where that can't be done, read again and guess no more.

        Once all seats have chosen: to read may overwrite the logits of the step.
        """
        for entry in entries:
            read = self._read[entry.seat]
            if entry.seat not in self._going or len(read) == entry.at + len(entry.tokens):
                continue
            kept = self._host.keep_seat(entry.seat, len(read))
            if kept < len(read):
                self._most_guesses = 0
                self._host.read_seat(entry.seat, read[kept:], kept)

    def _begin(self, seat: int, request: Request) -> NDArray[np.float32]:
        """Read the prompt from where it departs from what the seat has read before."""
        ids = list(request.ids or ())
        known = self._known(seat, ids)
        kept = self._host.keep_seat(seat, min(_same(known, ids), len(ids) - 1))
        self._read[seat] = ids[:kept]
        row = self._host.read_seat(seat, ids[kept:], kept)
        self._read[seat] = ids
        likely = self._host.tokenize(request.likely, special=False, add_bos=False) if request.likely else ()
        self._going[seat] = _Going(
            Sampler(request),
            AnswerStream(request, self._host.info.eog_ids),
            Draft(ids, likely),
            self._stream(),
        )
        return row

    def _known(self, seat: int, ids: Sequence[int]) -> Sequence[int]:
        """Return what a seat has read; it takes what another has, where that begins more like these ids."""
        known = self._read.get(seat, [])
        other = max(self._read, key=lambda other: _same(self._read[other], ids), default=seat)
        gain = _same(self._read.get(other, ()), ids) - _same(known, ids)
        return self._read[other] if gain >= WORTH_COPYING and self._host.copy_seat(seat, other) else known

    def _choose(self, seat: int, row: NDArray[np.float32]) -> list[Finished]:
        """Choose a seat's next token; return the answer if that was its last."""
        going = self._going[seat]
        token = going.sampler.choose(row)
        piece = going.answer.add(token, going.bytes_of(token), 0.0)
        going.text += piece.text
        going.made += 1
        if piece.end is None:
            self._next[seat] = token
            going.draft.add(token)
            return []
        del self._going[seat]
        return [Finished(seat, going.text, piece.end, going.made)]


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """Count the tokens that two texts begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))

"""Contexts of llama.cpp: one that reads tokens, and several for the texts of all seats."""

from __future__ import annotations

import ctypes
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from verify.runtimes._seats import Entry

BATCH = 512  # n_ubatch of llama.cpp's own tools
# A seat's tokens at first: llama.cpp writes a cache from end to end as it makes it, needed or not.
SEAT_TOKENS = 512
# With so many texts, another context is worth reading the weights once more in each step.
FEWEST_SEATS = 4


class LlamaContext:
    """What a model has read of one text or several."""

    def __init__(self, lib: Any, model: Any, params: Any) -> None:
        self._lib = lib
        self._vocab_size = int(lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model)))
        self.native = lib.llama_init_from_model(model, params)
        if not self.native:
            what = f"llama.cpp could not make a context of {params.n_ctx} tokens"
            raise Failure(what, "its reason is on stderr")
        self.memory = lib.llama_get_memory(self.native)
        self._batch = lib.llama_batch_init(BATCH, 0, 1)

    def read(self, part: Sequence[int], at: int, sequence: int) -> None:
        """Read the tokens of one sequence; only the last one's logits are computed."""
        last = len(part) - 1
        self.decode([(token, at + n, sequence, n == last) for n, token in enumerate(part)])

    def decode(self, entries: Sequence[tuple[int, int, int, bool]]) -> None:
        """Read tokens, each with its position and sequence, and whether its logits are wanted."""
        batch = self._batch
        for at, (token, position, sequence, wants_logits) in enumerate(entries):
            batch.token[at], batch.pos[at], batch.logits[at] = token, position, wants_logits
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
        batch.n_tokens = len(entries)
        code = self._lib.llama_decode(self.native, batch)
        if code:
            raise Failure(f"llama.cpp could not evaluate a batch (code {code})", "its reason is on stderr")

    def row(self, index: int) -> NDArray[np.float32]:
        """Return the logits after one token of the last batch, until the next."""
        pointer = self._lib.llama_get_logits_ith(self.native, index)
        return np.ctypeslib.as_array(pointer, shape=(self._vocab_size,))

    def rows(self, count: int) -> NDArray[np.float32]:
        """Return the logits after each token of the last batch, until the next."""
        pointer = self._lib.llama_get_logits(self.native)
        return np.ctypeslib.as_array(pointer, shape=(count, self._vocab_size))

    def use_threads(self, count: int) -> None:
        """Compute with so many threads from now on."""
        self._lib.llama_set_n_threads(self.native, count, count)

    def copy_text(self, sequence: int, other: LlamaContext, others_sequence: int) -> None:
        """Replace what was read of a sequence by what another context has read of one, or this one."""
        self._lib.llama_memory_seq_rm(self.memory, sequence, -1, -1)
        if self._lib.llama_memory_seq_pos_max(other.memory, others_sequence) < 0:
            return
        size = self._lib.llama_state_seq_get_size(other.native, others_sequence)
        state = (ctypes.c_uint8 * size)()
        self._lib.llama_state_seq_get_data(other.native, state, size, others_sequence)
        if not self._lib.llama_state_seq_set_data(self.native, state, size, sequence):
            raise Failure("llama.cpp could not copy what it has read of a text", "its reason is on stderr")

    def close(self) -> None:
        """Give back the cache."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self.native)


class SeatGroup:
    """The texts of some seats, in a context that grows with them."""

    def __init__(
        self, lib: Any, make: Callable[[int, int], LlamaContext], seats: Sequence[int], most_tokens: int
    ) -> None:
        self._lib, self._make, self._most_tokens = lib, make, most_tokens
        self._places = {seat: place for place, seat in enumerate(seats)}  # each seat's sequence
        self._tokens = 0  # that there is room for
        self._context: LlamaContext | None = None

    def read(self, seat: int, ids: Sequence[int], at: int, threads: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text, in parts, and return the logits after the last."""
        context = self._room(at + len(ids))
        context.use_threads(threads)
        for start in range(0, len(ids), BATCH):
            context.read(ids[start : start + BATCH], at + start, self._places[seat])
        return context.row(-1)

    def step(self, entries: Sequence[Entry], threads: int) -> dict[int, list[NDArray[np.float32]]]:
        """Read some tokens of each seat's text, and return the logits after each."""
        context = self._room(max(entry.at + len(entry.tokens) for entry in entries))
        context.use_threads(threads)
        self._move_together([entry.seat for entry in entries])
        placed = [
            (self._places[entry.seat], token, entry.at + n, entry.seat)
            for entry in sorted(entries, key=lambda entry: self._places[entry.seat])
            for n, token in enumerate(entry.tokens)
        ]
        context.decode([(token, at, place, True) for place, token, at, _ in placed])
        rows: dict[int, list[NDArray[np.float32]]] = defaultdict(list)
        for index, (_, _, _, seat) in enumerate(placed):
            rows[seat].append(context.row(index))
        return rows

    def keep(self, seat: int, count: int) -> int:
        """Keep the first tokens of a seat's text; none where its state can't be rolled back."""
        memory, place = self._room(0).memory, self._places[seat]
        is_cut = self._lib.llama_memory_seq_rm(memory, place, count, -1)
        if is_cut and count and self._lib.llama_memory_seq_pos_min(memory, place) == 0:
            return count
        self._lib.llama_memory_seq_rm(memory, place, -1, -1)
        return 0

    def copy(self, seat: int, other: SeatGroup, others_seat: int) -> None:
        """Replace what was read of a seat's text by what was read of another's."""
        before, place = other._room(0), other._places[others_seat]
        length = self._lib.llama_memory_seq_pos_max(before.memory, place) + 1
        self._room(length).copy_text(self._places[seat], before, place)

    def _move_together(self, seats: Sequence[int]) -> None:
        """Move texts into each other's neighborhood: llama.cpp reads the weights again after each gap."""
        taken = {self._places[seat] for seat in seats}
        starts = (range(first, first + len(taken)) for first in range(len(self._places) - len(taken) + 1))
        room = set(max(starts, key=lambda places: len(taken.intersection(places))))
        memory = self._room(0).memory
        seat_at = {place: seat for seat, place in self._places.items()}
        for here, there in zip(sorted(taken - room), sorted(room - taken), strict=True):
            self._lib.llama_memory_seq_rm(memory, there, -1, -1)
            self._lib.llama_memory_seq_cp(memory, here, there, -1, -1)
            self._lib.llama_memory_seq_rm(memory, here, -1, -1)
            self._places[seat_at[here]], self._places[seat_at[there]] = there, here

    def _room(self, tokens: int) -> LlamaContext:
        """Return the context, with room for a text of so many tokens."""
        before = self._context
        if before is not None and tokens <= self._tokens:
            return before
        self._tokens = min(self._most_tokens, max(SEAT_TOKENS, tokens, 2 * self._tokens))
        self._context = self._make(self._tokens, len(self._places))
        if before is not None:
            for place in self._places.values():
                self._context.copy_text(place, before, place)
            before.close()
        return self._context


class SeatGroups:
    """All seats, in groups that are read at the same time, each by some of the threads.

    In a step of few tokens, llama.cpp's threads wait for each other at every head of every text. Two contexts
    with a thread each take four fifths of the time of one with two.
    """

    def __init__(self, groups: Sequence[SeatGroup], threads: int) -> None:
        self._groups, self._threads = groups, threads
        # OpenMP has other threads for each of ours: a group has its own, and the first has those of reads.
        self._runners = [ThreadPoolExecutor(1) for _ in groups[1:]]

    def read(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one seat's text with all threads, and return the logits after the last."""
        return self._of(seat).read(seat, ids, at, self._threads)

    def step(self, entries: Sequence[Entry]) -> Sequence[Sequence[NDArray[np.float32]]]:
        """Read some tokens of each seat's text, and return the logits after each."""
        parts: dict[SeatGroup, list[Entry]] = defaultdict(list)
        for entry in entries:
            parts[self._of(entry.seat)].append(entry)
        (first, its_part), *others = parts.items()
        threads, more = divmod(self._threads, len(parts))
        steps = [
            runner.submit(group.step, part, threads + (number < more))
            for number, (runner, (group, part)) in enumerate(zip(self._runners, others, strict=False))
        ]
        rows = first.step(its_part, threads)
        for step in steps:
            rows |= step.result()
        return [rows[entry.seat] for entry in entries]

    def copy(self, seat: int, other: int) -> None:
        """Replace what was read of one text by what was read of another."""
        self._of(seat).copy(seat, self._of(other), other)

    def keep(self, seat: int, count: int) -> int:
        """Keep the first tokens of a seat's text, and return how many are left."""
        return self._of(seat).keep(seat, count)

    def _of(self, seat: int) -> SeatGroup:
        return self._groups[seat % len(self._groups)]

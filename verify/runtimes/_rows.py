"""A graph with a cache for several texts, each in its own row: a step reads a token of each, weights once.

Each row has as many columns as it has read. A long text is read without the graph's head, but for its last
token. onnxruntime's attention reads several tokens after others of one text only: guesses are for the last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verify.runtimes._graph import FLOATS
from verify.runtimes._seats import Entry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

TYPES = {**FLOATS, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
# Tokens that are read at once. To leave out the head of so few takes longer than to compute it.
PART, FEW = 512, 16
# Of a trial: so many texts, of so many tokens and more.
TEXTS, TOKENS = 4, 6
# Logits differ by so many roundings of their range, or by what they differ in other orders of reading.
ROUNDINGS, ORDERS = 1024, 4


@dataclass(frozen=True)
class Names:
    """The artifact's names of what goes into a graph and comes out of it."""

    ids: str
    mask: str
    positions: str
    logits: str
    caches: Mapping[str, str]  # from what goes in to what comes out


@dataclass(frozen=True)
class Trial:
    """Texts, the logits that each gets alone, and by how much those of several texts may differ."""

    texts: Sequence[Sequence[int]]
    wanted: Sequence[NDArray[np.float32]]
    limit: float


def prepare_trial(
    vocab_size: int, eps: float, alone: Callable[[Sequence[Sequence[int]]], NDArray[np.float32]]
) -> Trial:
    """Read a few texts alone, each in two ways: at once, and its last token apart.

    Where activations are rounded to few bits, the least difference in a sum may change what follows from it.
    """
    draw = np.random.default_rng(0)
    texts = [[int(one) for one in draw.integers(0, vocab_size, TOKENS + n)] for n in range(TEXTS)]
    apart = [alone([text[:-1], text[-1:]]) for text in texts]
    noise = max(float(np.abs(alone([text]) - row).max()) for text, row in zip(texts, apart, strict=True))
    width = max(float(np.ptp(row)) for row in apart)
    return Trial(texts, apart, max(ROUNDINGS * eps * width, ORDERS * noise))


def open_rows(graph: Path, names: Names, threads: int, size: tuple[int, int], trial: Trial) -> Rows | None:
    """Open a graph for so many texts of so many tokens, on a CPU; None where it gives them other logits."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(graph, options, ["CPUExecutionProvider"])
    if not _is_plain(session, names):
        return None
    rows = Rows(session, names, *size)
    return rows if rows.is_exact(trial) else None


def _is_plain(session: Any, names: Names) -> bool:
    """Tell whether tokens and the cache are all that goes in, and the cache is as wide as heads are."""
    texts = {names.ids, names.mask, names.positions}
    given = {each.name: each for each in session.get_inputs()}
    shapes = [given[name].shape for name in names.caches if name in given]
    return (
        given.keys() - texts == names.caches.keys()
        and {names.ids, names.mask} <= given.keys()
        and all(len(shape) == 4 and {type(shape[1]), type(shape[3])} == {int} for shape in shapes)
    )


class Rows:
    """A session, keys and values of all rows, and which seat's text each row has."""

    def __init__(self, session: Any, names: Names, count: int, room: int) -> None:
        import onnxruntime

        self._session, self._names, self._room = session, names, room
        given = {each.name: each for each in session.get_inputs()}
        self._types = {name: TYPES[each.type] for name, each in given.items()}
        self._cache: dict[str, NDArray[Any]] = {
            name: np.zeros((count, given[name].shape[1], room, given[name].shape[3]), self._types[name])
            for name in names.caches
        }
        logits = next(each for each in session.get_outputs() if each.name == names.logits)
        self._logits_type, self._vocab_size = TYPES[logits.type], int(logits.shape[-1])
        self._logits: NDArray[Any] = np.empty(0, self._logits_type)
        self._bindings: dict[tuple[int, int, bool], Any] = {}
        self._places = [*range(count)]  # the row of each seat
        self._length: list[int] = [0] * count  # the tokens in each row
        self._without_head = onnxruntime.RunOptions()
        self._without_head.only_execute_path_to_fetches = True

    def is_exact(self, trial: Trial) -> bool:
        """Try whether each text gets its logits in a step with others, one of them as long as can be.

        Every row is written to: the first time takes long (0.3 s), and is to be no answer's time.
        """
        count = len(self._places)
        texts = [trial.texts[seat % TEXTS] for seat in range(max(1, count - 1))]
        for seat, text in enumerate(texts):
            self.read(seat, text[:-1], 0)
        entries = [Entry(seat, text[-1:], len(text) - 1) for seat, text in enumerate(texts)]
        longest = [Entry(len(texts), [0], self._room - 1)] if count > 1 else []
        try:
            found = self.step([*entries, *longest])
        except Exception:  # noqa: BLE001  (onnxruntime raises several kinds: it can't be asked so)
            return False
        self._length = [0] * count
        return all(
            np.abs(found[seat][0] - trial.wanted[seat % TEXTS]).max() <= trial.limit
            for seat in range(len(texts))
        )

    def read(self, seat: int, ids: Sequence[int], at: int) -> NDArray[np.float32]:
        """Read tokens of one text, and return the logits after the last."""
        last = len(ids) - 1 if len(ids) > FEW else 0
        for start in range(0, last, PART):
            part = ids[start : min(start + PART, last)]
            self._run(self._places[seat], [part], [at + start], has_head=False)
        row: NDArray[np.float32] = self._run(self._places[seat], [ids[last:]], [at + last])[0, -1]
        return row

    def step(self, entries: Sequence[Entry]) -> list[NDArray[np.float32]]:
        """Read a token of each text, or several of one, and return the logits after each."""
        self._move_together([entry.seat for entry in entries])
        placed = sorted(entries, key=lambda entry: self._places[entry.seat])
        found = self._run(0, [entry.tokens for entry in placed], [entry.at for entry in placed])
        return [found[self._places[entry.seat]] for entry in entries]

    def copy(self, seat: int, other: int) -> None:
        """Replace what was read of one text by what was read of another."""
        here, there = self._places[other], self._places[seat]
        self._length[there] = length = self._length[here]
        for kept in self._cache.values():
            kept[there, :, :length] = kept[here, :, :length]

    def keep(self, seat: int, count: int) -> int:
        """Forget what a seat has read but for the first tokens, and return how many are left."""
        place = self._places[seat]
        kept: int = min(count, self._length[place])
        self._length[place] = kept
        return kept

    def _move_together(self, seats: Sequence[int]) -> None:
        """Move texts into the first rows; the text of a seat that waits there is forgotten."""
        taken = {self._places[seat] for seat in seats}
        room = range(len(seats))
        for here, there in zip(sorted(taken.difference(room)), sorted(set(room) - taken), strict=True):
            one, other = self._places.index(here), self._places.index(there)
            self.copy(other, one)
            self._length[here] = 0
            self._places[one], self._places[other] = there, here

    def _run(
        self, first: int, ids: Sequence[Sequence[int]], at: Sequence[int], *, has_head: bool = True
    ) -> NDArray[np.float32]:
        """Read as many tokens in each of some rows; return all logits, until the next step, or none."""
        count, size = len(ids), len(ids[0])
        ends = np.array(at, np.int64)[:, None] + size
        names, binding = self._names, self._binding(first, count, has_head=has_head)
        given = {
            names.ids: np.array(ids),
            names.mask: np.arange(ends.max())[None] < ends,
            names.positions: ends - size + np.arange(size)[None],
        }
        # Bound where they are: they are kept until the run is over.
        bound = {
            name: np.ascontiguousarray(value, self._types[name])
            for name, value in given.items()
            if name in self._types
        }
        for name, value in bound.items():
            binding.bind_cpu_input(name, value)
        logits = self._logits_of(count, size if has_head else 0)
        if has_head:
            binding.bind_output(names.logits, "cpu", 0, logits.dtype, logits.shape, logits.ctypes.data)
            self._session.run_with_iobinding(binding)
        else:
            self._session.run_with_iobinding(binding, self._without_head)
        self._length[first : first + count] = [int(end) for end in ends[:, 0]]
        return logits.astype(np.float32, copy=False)

    def _logits_of(self, count: int, size: int) -> NDArray[Any]:
        """Return memory for logits, the same in every step: new pages take time."""
        values = count * size * self._vocab_size
        if self._logits.size < values:
            self._logits = np.empty(values, self._logits_type)
        return self._logits[:values].reshape(count, size, self._vocab_size)

    def _binding(self, first: int, count: int, *, has_head: bool) -> Any:
        """Return a binding by which the session reads and writes the cache of some rows in its place."""
        key = first, count, has_head
        if key not in self._bindings:
            binding = self._session.io_binding()
            for name, kept in self._cache.items():
                place = "cpu", 0, kept.dtype, (count, *kept.shape[1:]), kept[first:].ctypes.data
                binding.bind_input(name, *place)
                binding.bind_output(self._names.caches[name], *place)
            self._bindings[key] = binding
        return self._bindings[key]

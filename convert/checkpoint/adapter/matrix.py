"""Matrices whose rows are computed when they are read: a stored one, and what an adapter makes of it.

Sums are in one order, whatever rows are read at once and on whatever machine: no product is left to a library
for linear algebra, whose kernels add in the order that suits a processor.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from convert.checkpoint.reader import Checkpoint
from convert.errors import Failure

Rows = npt.NDArray[np.float32]
# Weights at once: products stay in a core's cache.
_BLOCK_WEIGHTS = 1 << 15
# Weights at once where all rows are needed before the first.
_SLICE_WEIGHTS = 1 << 19


class Matrix(Protocol):
    """What has rows; those of a transposed matrix are stored as its columns."""

    def rows(self, start: int, stop: int, *, index: int | None, is_transposed: bool) -> Rows:
        """Compute some rows, of a stack's element `index`."""


@dataclass(frozen=True)
class Stored:
    """A tensor of a file."""

    checkpoint: Checkpoint
    name: str

    def rows(self, start: int, stop: int, *, index: int | None, is_transposed: bool) -> Rows:
        """Read them."""
        return self.checkpoint.rows(self.name, start, stop, index=index, is_transposed=is_transposed)


@dataclass(frozen=True)
class Factor:
    """One of the two narrow matrices, read as (size, rank), or a part of it."""

    checkpoint: Checkpoint
    name: str
    size: int
    has_rank_first: bool  # stored (rank, size), as lora_A is
    first_row: int = 0
    # Those of a stack's elements are in one: in lora_A one after the other, in lora_B by turns.
    count: int = 1
    element: int | None = None  # None: the one that is read

    def rows(self, start: int, stop: int, index: int | None) -> Rows:
        """Read some rows of one element's."""
        first, last = self.first_row + start, self.first_row + stop
        found = self.checkpoint.rows(self.name, first, last, is_transposed=self.has_rank_first)
        rank = found.shape[1] // self.count
        element = (index if self.element is None else self.element) or 0
        return (
            found[:, element * rank :][:, :rank] if self.has_rank_first else found[:, element :: self.count]
        )


class Recent:
    """The few narrow matrices that were read last: the next slices want the same."""

    COUNT = 4

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Hashable, Rows] = OrderedDict()

    def get(self, key: Hashable, read: Callable[[], Rows]) -> Rows:
        """Return what was read by that key, or read it."""
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        found = read()
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > self.COUNT:
                self._kept.popitem(last=False)
        return found


@dataclass(frozen=True)
class LowRank:
    """A matrix, and the scaled product of two narrow ones added to it; `left` goes along its first axis."""

    base: Matrix
    left: Factor
    right: Factor
    scale: float
    recent: Recent

    def rows(self, start: int, stop: int, *, index: int | None, is_transposed: bool) -> Rows:
        """Read and add."""
        rows = np.array(self.base.rows(start, stop, index=index, is_transposed=is_transposed))
        along, across = (self.right, self.left) if is_transposed else (self.left, self.right)
        outer = along.rows(start, stop, index) * np.float32(self.scale)
        inner = self.recent.get(
            (across, index), lambda: np.ascontiguousarray(across.rows(0, across.size, index).T)
        )  # (rank, columns)
        add_product(rows, outer, inner)
        return rows


def add_product(rows: Rows, outer: Rows, inner: Rows) -> None:
    """Add (rows, rank) times (rank, columns) in place, term by term in the order of ranks."""
    step = max(1, _BLOCK_WEIGHTS // rows.shape[1])
    term, total = np.empty((2, min(step, len(rows)), rows.shape[1]), np.float32)
    for first in range(0, len(rows), step):
        part, factors = rows[first : first + step], outer[first : first + step]
        count = len(part)
        np.multiply(factors[:, :1], inner[0], out=total[:count])
        for rank in range(1, len(inner)):
            np.multiply(factors[:, rank : rank + 1], inner[rank], out=term[:count])
            np.add(total[:count], term[:count], out=total[:count])
        np.add(part, total[:count], out=part)


@dataclass(frozen=True)
class Rescaled:
    """A matrix whose vectors along one axis get lengths that were trained apart (DoRA)."""

    base: Matrix
    lengths: Stored
    shape: tuple[int, int]  # as stored
    axis: int  # of the stored matrix, that the lengths go along
    where: str
    release: Callable[[int, int], None]  # hears which rows were read, where all are
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    _norms: list[npt.NDArray[np.float64]] = field(default_factory=list, compare=False)

    def rows(self, start: int, stop: int, *, index: int | None, is_transposed: bool) -> Rows:
        """Compute the rows, and the lengths that they have now."""
        rows = self.base.rows(start, stop, index=index, is_transposed=is_transposed)
        if (self.axis == 0) is not is_transposed:
            norms, lengths = np.sqrt(_squares(rows, axis=1)), self._lengths(start, stop)
            return rows * self._factors(lengths, norms)[:, None]
        with self._lock:  # all rows count: they are read once for the first of them
            if not self._norms:
                self._norms.append(self._norms_across(is_transposed=is_transposed))
        return rows * self._factors(self._lengths(0, self.shape[self.axis]), self._norms[0])

    def _lengths(self, start: int, stop: int) -> Rows:
        return self.lengths.rows(start, stop, index=None, is_transposed=False)[:, 0]

    def _factors(self, lengths: Rows, norms: npt.NDArray[np.float64]) -> Rows:
        if not norms.all():
            raise Failure(
                f"{self.where}: a vector of zeros cannot be given a length",
                "the adapter or the model is damaged: fetch both again",
            )
        return (lengths / norms).astype(np.float32)

    def _norms_across(self, *, is_transposed: bool) -> npt.NDArray[np.float64]:
        count, columns = self.shape[::-1] if is_transposed else self.shape
        step = max(1, _SLICE_WEIGHTS // columns)
        total = np.zeros(columns)
        for row in range(0, count, step):
            stop = min(count, row + step)
            rows = self.base.rows(row, stop, index=None, is_transposed=is_transposed)
            total += _squares(rows, axis=0)
            self.release(row, stop)
        return np.sqrt(total)


def _squares(rows: Rows, axis: int) -> npt.NDArray[np.float64]:
    wide = rows.astype(np.float64)
    return np.asarray(np.add.reduce(np.square(wide, out=wide), axis=axis))


@dataclass(frozen=True)
class Shifted:
    """A vector, and another one added to it."""

    base: Matrix
    shift: Stored
    scale: float

    def rows(self, start: int, stop: int, *, index: int | None, is_transposed: bool) -> Rows:
        """Read and add."""
        shift = self.shift.rows(start, stop, index=index, is_transposed=is_transposed)
        return self.base.rows(start, stop, index=index, is_transposed=is_transposed) + shift * np.float32(
            self.scale
        )


@dataclass(frozen=True)
class Patched:
    """A matrix of which some rows are replaced."""

    base: Matrix
    patch: Stored
    places: tuple[int, ...]  # of the patch's rows

    def rows(self, start: int, stop: int, *, index: int | None, is_transposed: bool) -> Rows:
        """Read, and replace what is among these."""
        rows = np.array(self.base.rows(start, stop, index=index, is_transposed=is_transposed))
        patch = self.patch.rows(0, len(self.places), index=None, is_transposed=False)
        if is_transposed:
            rows[:, list(self.places)] = patch[:, start:stop].T
            return rows
        for number, place in enumerate(self.places):
            if start <= place < stop:
                rows[place - start] = patch[number]
        return rows

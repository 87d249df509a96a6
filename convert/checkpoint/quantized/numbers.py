"""How the numbers of a quantized matrix are stored: plain, as exponents, or several to a word."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.checkpoint.floats import to_f32

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.checkpoint.reader import Checkpoint
    from convert.checkpoint.tensor import TensorInfo

    Span = tuple[int, int]

# E2M1, the four bits of FP4: sign, two of exponent, one of mantissa.
FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)
INTEGERS = ("I8", "U8", "I16", "I32", "I64")
# E8M0: an exponent alone, whose last code is not a number.
_POWERS = np.append(np.ldexp(np.float32(1), np.arange(255) - 127), np.float32(np.nan))


@dataclass(frozen=True, slots=True)
class Numbers(ABC):
    """A matrix of numbers, or a stack of matrices, in one tensor."""

    stored: TensorInfo
    shape: tuple[int, int]  # of a matrix, once it is unpacked

    @abstractmethod
    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Read a part of the matrix, or of the one at `index`, as a new array."""

    def _view(self, raw: Checkpoint, index: int | None, shape: tuple[int, ...]) -> NDArray[Any]:
        name = self.stored.name
        found = raw.read(name) if index is None else raw.read(name, index, index + 1)
        return found.reshape(shape)


@dataclass(frozen=True, slots=True)
class Plain(Numbers):
    """Floats or integers, one after the other."""

    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Widen them."""
        found = self._view(raw, index, self.shape)[slice(*rows), slice(*columns)]
        if self.stored.dtype in INTEGERS:
            return found.astype(np.float32, order="C")
        widened = to_f32(found, self.stored.dtype)
        return widened if widened.flags.writeable else widened.copy()


@dataclass(frozen=True, slots=True)
class Exponents(Numbers):
    """Powers of two as their exponents alone, 127 for one: E8M0."""

    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Raise two to them; the last code is not a number."""
        found = self._view(raw, index, self.shape)[slice(*rows), slice(*columns)]
        return np.take(_POWERS, found)


@dataclass(frozen=True, slots=True)
class Across(Numbers):
    """Codes of a few bits along the columns, the first in a word's lowest bits unless `order` differs."""

    bits: int
    table: tuple[float, ...]  # what each code means
    order: tuple[int, ...] = ()  # the place in a word of each of its columns
    increment: int = 0  # to be added to each word

    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Unpack the words that these columns are in."""
        words = self._view(raw, index, (self.shape[0], -1))
        word_bytes = words.dtype.itemsize
        per_byte = 8 // self.bits
        per_word = per_byte * word_bytes
        first, last = columns[0] // per_word, -(-columns[1] // per_word)
        taken = np.ascontiguousarray(words[slice(*rows), first:last])
        if self.increment:
            taken = taken.view(np.uint32) + np.uint32(self.increment)
        packed = taken.view(np.uint8).reshape(len(taken), -1)
        codes = np.empty((*packed.shape, per_byte), np.uint8)
        for place in range(per_byte):
            np.right_shift(packed, place * self.bits, out=codes[:, :, place])
        codes &= (1 << self.bits) - 1
        by_word = codes.reshape(len(taken), -1, per_word)
        ordered = by_word[:, :, self.order] if self.order else by_word
        skipped = first * per_word
        within = ordered.reshape(len(taken), -1)[:, columns[0] - skipped : columns[1] - skipped]
        return np.take(np.asarray(self.table, np.float32), within)


@dataclass(frozen=True, slots=True)
class Down(Numbers):
    """Codes of a few bits along the rows, the first in a word's lowest bits."""

    bits: int
    offset: int = 0  # what the code of zero is

    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Unpack the words that these rows are in."""
        per_word = 32 // self.bits
        first, last = rows[0] // per_word, -(-rows[1] // per_word)
        words = self._view(raw, index, (-1, self.shape[1]))[first:last, slice(*columns)].view(np.uint32)
        shifts = np.arange(0, 32, self.bits, dtype=np.uint32)
        codes = words[:, None, :] >> shifts[None, :, None]
        codes &= np.uint32((1 << self.bits) - 1)
        skipped = first * per_word
        unpacked = codes.reshape(-1, words.shape[1])[rows[0] - skipped : rows[1] - skipped]
        values = unpacked.astype(np.float32)
        values -= np.float32(self.offset)
        return values


@dataclass(frozen=True, slots=True)
class Joined(Numbers):
    """Numbers that are multiplied with, or divided by, one number that is stored apart."""

    inner: Numbers
    factor: TensorInfo
    is_divisor: bool = False

    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> NDArray[np.float32]:
        """Read the numbers, and the one."""
        found = raw.read(self.factor.name)
        stack = to_f32(found, self.factor.dtype).reshape(-1)
        factor = stack[index if index is not None and len(stack) > 1 else 0]
        values = self.inner.read(raw, index, rows, columns)
        with np.errstate(all="ignore"):  # what is no number is found where it is used
            operation = np.divide if self.is_divisor else np.multiply
            operation(values, factor, out=values)
        return values

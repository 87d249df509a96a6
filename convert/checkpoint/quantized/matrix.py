"""A quantized matrix: codes, and the numbers that blocks of them are shifted by and multiplied with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.checkpoint.tensor import DAMAGED
from convert.errors import Failure, shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from convert.checkpoint.quantized.numbers import Numbers, Span
    from convert.checkpoint.reader import Checkpoint
    from convert.checkpoint.tensor import TensorInfo

    Values = NDArray[np.float32]
    Operation = Callable[..., Values]


@dataclass(frozen=True, slots=True)
class Order:
    """The tensor that says which of the grid's rows, or columns, each of a matrix's belongs to."""

    stored: TensorInfo
    axis: int
    groups: int

    def read(self, raw: Checkpoint, span: Span) -> NDArray[np.int64]:
        """Read the groups of some rows or columns."""
        found = raw.read(self.stored.name)[slice(*span)].astype(np.int64)
        if found.size and not 0 <= int(found.min()) <= int(found.max()) < self.groups:
            what = f"{self.stored.file.name}: {shown(self.stored.name)} names a group outside of"
            raise Failure(f"{what} the {self.groups} that have scales", DAMAGED)
        return found


@dataclass(frozen=True, slots=True)
class Grid:
    """Numbers of which each holds for a block of a matrix, or for the rows or columns that `order` says."""

    numbers: Numbers
    block: tuple[int, int]
    order: Order | None = None

    def read(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> Values:
        """Read the numbers of a part of the matrix: for each row or all at once, one for each block."""
        spans = [
            (start // size, -(-stop // size))
            for (start, stop), size in zip((rows, columns), self.block, strict=True)
        ]
        if self.order is None:
            values = self.numbers.read(raw, index, spans[0], spans[1])
            if self.block[0] == 1 or len(values) == 1:
                return values
            return np.take(values, np.arange(*rows) // self.block[0] - spans[0][0], 0)
        axis = self.order.axis
        spans[axis] = (0, self.order.groups)
        values = self.numbers.read(raw, index, spans[0], spans[1])
        return np.take(values, self.order.read(raw, (rows, columns)[axis]), axis)

    def apply(self, operation: Operation, target: Values, values: Values, first_column: int) -> None:
        """Subtract or multiply in place; `values` are those of the target's blocks."""
        size = 1 if self.order is not None and self.order.axis == 1 else self.block[1]
        if values.shape[1] == 1 or size == 1:
            operation(target, values, out=target)
            return
        # Blocks that are cut at either end, and whole ones between, as a view with an axis more.
        width = target.shape[1]
        head = min(-first_column % size, width)
        whole = (width - head) // size
        first = 1 if head else 0
        if head:
            operation(target[:, :head], values[:, :1], out=target[:, :head])
        blocks = target[:, head : head + whole * size].reshape(len(target), whole, size)
        operation(blocks, values[:, first : first + whole, None], out=blocks)
        if head + whole * size < width:
            tail = target[:, head + whole * size :]
            operation(tail, values[:, -1:], out=tail)


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix or a stack of them; `info` describes it as it is once it is widened."""

    info: TensorInfo
    parts: tuple[str, ...]  # all tensors that it is stored in, the codes first
    codes: Numbers
    scales: Grid
    zeros: Grid | None = None
    is_turned: bool = False  # stored as the transpose of what `info` says

    def rows(
        self, raw: Checkpoint, start: int, stop: int, index: int | None, *, is_transposed: bool
    ) -> Values:
        """Widen some rows, or those of the transpose."""
        height, width = self.codes.shape
        if is_transposed == self.is_turned:
            return self._widen(raw, index, (start, stop), (0, width))
        return np.ascontiguousarray(self._widen(raw, index, (0, height), (start, stop)).T)

    def release(
        self, raw: Checkpoint, start: int, stop: int, index: int | None, *, is_transposed: bool
    ) -> None:
        """Release the pages of rows that were read; what other rows share, with the last of them."""
        is_direct = is_transposed == self.is_turned
        codes = self.codes.stored
        stored_rows = codes.shape[0] if index is None else codes.shape[1]
        if is_direct and stored_rows == self.codes.shape[0]:
            raw.release_rows(codes.name, start, stop, index=index)
        if stop == self.codes.shape[0 if is_direct else 1]:
            for name in self.parts:
                is_stack = index is not None and len(raw.tensors[name].shape) > 1
                raw.release(name, *((index, index + 1) if is_stack and index is not None else (0, None)))

    def _widen(self, raw: Checkpoint, index: int | None, rows: Span, columns: Span) -> Values:
        values = self.codes.read(raw, index, rows, columns)
        if self.zeros is not None:
            zeros = self.zeros.read(raw, index, rows, columns)
            self.zeros.apply(np.subtract, values, zeros, columns[0])
        scales = self.scales.read(raw, index, rows, columns)
        self._check(scales, values, columns[0])
        # What a damaged code makes infinite or no number is found by those who use it.
        with np.errstate(all="ignore"):
            self.scales.apply(np.multiply, values, scales, columns[0])
        return values

    def _check(self, scales: Values, values: Values, first_column: int) -> None:
        stored = self.scales.numbers.stored
        where = f"{stored.file.name}: {shown(stored.name)}"
        if not np.isfinite(scales).all():
            raise Failure(f"{where} holds a scale that is infinite or not a number", DAMAGED)
        if (scales == 0).any():
            lost = values.copy()
            self.scales.apply(np.multiply, lost, (scales == 0).astype(np.float32), first_column)
            if lost.any():
                raise Failure(f"{where} holds a scale of zero for weights that are not zero", DAMAGED)

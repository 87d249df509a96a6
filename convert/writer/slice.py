"""Rows of the source on their way into every file that takes them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint import Checkpoint
from convert.checkpoint.lent import Scratch
from convert.errors import Failure
from convert.writer.codecs import Codec
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Piece
from convert.writer.sink import Sink


class Place(NamedTuple):
    """A matrix of the source: a tensor, or one of a stack, maybe stored (columns, rows)."""

    name: str
    matrix: int | None
    is_transposed: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of a source matrix go in one file."""

    first_row: int
    stop_row: int
    piece: Piece
    codec: Codec
    offsets_bytes: tuple[int, ...]  # of the first row, one a plane
    sink: Sink
    # Where rows become columns, for each plane: what stays together of a row, and how far apart such are.
    turned_bytes: tuple[tuple[int, int], ...] = ()
    phase: int = 0  # which of every `step` rows it takes
    step: int = 1
    shared_rows: tuple[int, ...] = (1,)  # of the file, by one row of each plane

    @property
    def group_rows(self) -> int:
        return math.lcm(self.piece.group_rows, *self.shared_rows) * self.step

    def is_cut_by(self, edges: Iterable[int]) -> bool:
        """Tell whether rows that share a number would part at one of these."""
        return max(self.shared_rows) > 1 and any(
            self.first_row < edge < self.stop_row and (edge - self.first_row) % self.group_rows
            for edge in edges
        )

    def copies(self, stored_as: str | None) -> bool:
        """Tell whether finite numbers that are stored so go into the file as they are."""
        is_plain = isinstance(self.codec, Plain) and self.codec.name == stored_as
        return is_plain and self.piece.arrange is None and self.step == 1

    def written(self, source_rows: int) -> int:
        """Count the rows of the file that so many source rows become."""
        return source_rows // (self.piece.group_rows * self.step) * self.piece.out_group_rows


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a source matrix and everywhere they go."""

    place: Place
    first_row: int
    stop_row: int
    matrix_rows: int
    targets: tuple[Target, ...]

    def encode(self, checkpoint: Checkpoint, scratch: Scratch) -> int:
        """Read, convert, encode and write these rows; tell how many source bytes they were."""
        name, index, is_transposed = self.place
        bounds = self.first_row, self.stop_row
        with checkpoint.lend(scratch, name, *bounds, index=index, is_transposed=is_transposed) as lent:
            is_copied = [target.copies(lent.stored_as) for target in self.targets]
            if not all(is_copied):
                lent.wide()
            if not lent.is_finite():
                raise Failure(
                    f"{checkpoint.tensors[name].file.name}: {name} holds a value that is not a number "
                    f"or infinite in rows {self.first_row} to {self.stop_row - 1}",
                    "the weights are damaged; fetch the file again",
                )
            encoded: dict[object, tuple[NDArray[np.uint8], ...]] = {}
            for target, is_same in zip(self.targets, is_copied, strict=True):
                if is_same:
                    self._write(target, (lent.rows.view(np.uint8),))
                    continue
                key = (target.codec, target.piece.arrange, target.phase, target.step)
                if key not in encoded:
                    encoded[key] = self._encode(lent.wide()[target.phase :: target.step], target)
                self._write(target, encoded[key])
        return self.source_bytes(checkpoint)

    def _write(self, target: Target, planes: tuple[NDArray[np.uint8], ...]) -> None:
        first = target.written(self.first_row - target.first_row)
        if target.turned_bytes:
            for number, plane in enumerate(planes):
                _write_turned(target, plane, number, first)
            return
        for offset_bytes, plane, shared in zip(target.offsets_bytes, planes, target.shared_rows, strict=True):
            written = first // shared
            row_bytes = plane.nbytes // plane.shape[0]
            if target.piece.lanes > 1:
                step_bytes = row_bytes * target.piece.lanes
                for number, row in enumerate(plane, written):
                    target.sink.write(row, offset_bytes + number * step_bytes)
            else:
                target.sink.write(plane, offset_bytes + written * row_bytes)

    def spans(self, target: Target) -> Iterator[tuple[int, int]]:
        """Find where these rows go in one file: the first byte of each plane, and the one after the last."""
        first = target.written(self.first_row - target.first_row)
        stop = target.written(self.stop_row - target.first_row)
        widths = target.codec.row_bytes(target.piece.out_columns)
        if target.turned_bytes:  # all over the tensor
            for offset_bytes, (size_bytes, apart_bytes), width in zip(
                target.offsets_bytes, target.turned_bytes, widths, strict=True
            ):
                last = width // size_bytes - 1
                yield offset_bytes + first * size_bytes, offset_bytes + last * apart_bytes + stop * size_bytes
            return
        for offset_bytes, width, shared in zip(target.offsets_bytes, widths, target.shared_rows, strict=True):
            row_bytes = width * target.piece.lanes
            yield offset_bytes + first // shared * row_bytes, offset_bytes + -(-stop // shared) * row_bytes

    def _encode(self, rows: NDArray[np.float32], target: Target) -> tuple[NDArray[np.uint8], ...]:
        arrange = target.piece.arrange
        try:
            return target.codec.encode(arrange(rows) if arrange else np.ascontiguousarray(rows))
        except Failure as failure:
            raise Failure(f"{self.place.name}: {failure.message}", failure.hint) from failure

    def source_bytes(self, checkpoint: Checkpoint) -> int:
        """Share a matrix's bytes out, such that the shares add up."""
        info = checkpoint.tensors[self.place.name]
        size = info.size_bytes if self.place.matrix is None else info.size_bytes // info.shape[0]
        return size * self.stop_row // self.matrix_rows - size * self.first_row // self.matrix_rows


def _write_turned(target: Target, plane: NDArray[np.uint8], number: int, written: int) -> None:
    """Write rows as columns: the same part of each row side by side."""
    size_bytes, apart_bytes = target.turned_bytes[number]
    parts = plane.reshape(plane.shape[0], -1, size_bytes)
    offset_bytes = target.offsets_bytes[number] + written * size_bytes
    for at, together in enumerate(np.ascontiguousarray(parts.swapaxes(0, 1))):
        target.sink.write(together, offset_bytes + at * apart_bytes)

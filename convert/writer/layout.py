"""A file planned to the byte before anything is read."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from convert.model.decoder import Ref
from convert.writer.codecs import Codec

Arrange: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class AddOne:
    """Store a norm's weights whole that the source keeps less one."""

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows + np.float32(1)


@dataclass(frozen=True, slots=True)
class Piece:
    """A canonical tensor's rows on their way into a slot, rearranged in whole groups where need be."""

    ref: Ref
    rows: int
    columns: int
    arrange: Arrange | None = None
    group_rows: int = 1


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the file: what comes in, one piece's rows after the other, how, and its offsets."""

    name: str
    pieces: tuple[Piece, ...]
    codec: Codec
    offsets_bytes: tuple[int, ...]  # one a plane
    # Stored (in, out), as a Conv1D wants it: the codec must give each weight separate bytes, in one plane.
    is_turned: bool = False

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    @property
    def columns(self) -> int:
        return self.pieces[0].columns

    @property
    def sizes_bytes(self) -> tuple[int, ...]:
        return tuple(self.rows * row_bytes for row_bytes in self.codec.row_bytes(self.columns))


@dataclass(frozen=True, slots=True)
class Layout:
    """One file: its name in the artifact, its length, what is known beforehand, and the slots to fill."""

    path: str
    size_bytes: int
    fixed: tuple[tuple[int, bytes], ...]  # (offset, bytes): headers, tables, tensors that are computed
    slots: tuple[Slot, ...]

"""Ways in which a format wants rows rearranged; hashable, so that equal ones are done once."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.float32]
Arrange: TypeAlias = Callable[[Rows], Rows]


@dataclass(frozen=True, slots=True)
class AddOne:
    """Store a norm's weights whole that the source keeps less one."""

    def __call__(self, rows: Rows) -> Rows:
        return rows + np.float32(1)


@dataclass(frozen=True, slots=True)
class NegativeExp:
    """Store a decay as the negative number whose logarithm the source keeps."""

    def __call__(self, rows: Rows) -> Rows:
        # Rounded from 64 bits, so that no CPU's own way of computing it shows.
        return -np.exp(rows.astype(np.float64)).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Scale:
    """Multiply by what the source's code multiplies with at run time, one after the other."""

    factors: tuple[float, ...]

    def __call__(self, rows: Rows) -> Rows:
        for factor in self.factors:
            rows = rows * np.float32(factor)
        return rows


@dataclass(frozen=True, slots=True)
class Interleave:
    """Bring the two halves of each head's rows into neighboring rows."""

    head_size: int

    def __call__(self, rows: Rows) -> Rows:
        halves = rows.reshape(-1, 2, self.head_size // 2, rows.shape[1])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


@dataclass(frozen=True, slots=True)
class TileColumns:
    """Let heads of columns go around their groups, where the source keeps each group's together."""

    group_count: int
    head_size: int

    def __call__(self, rows: Rows) -> Rows:
        heads = rows.reshape(rows.shape[0], self.group_count, -1, self.head_size)
        return np.ascontiguousarray(heads.swapaxes(1, 2)).reshape(rows.shape)


@dataclass(frozen=True, slots=True)
class TakeFrame:
    """Take one picture's part of rows that hold (channels, pictures, pixels)."""

    channel_count: int
    frame_count: int
    frame: int

    def __call__(self, rows: Rows) -> Rows:
        parts = rows.reshape(len(rows), self.channel_count, self.frame_count, -1)
        return np.ascontiguousarray(parts[:, :, self.frame]).reshape(len(rows), -1)


@dataclass(frozen=True, slots=True)
class Turn:
    """Make columns of each group of rows."""

    group_rows: int

    def __call__(self, rows: Rows) -> Rows:
        groups = rows.reshape(-1, self.group_rows, rows.shape[1])
        return np.ascontiguousarray(groups.swapaxes(1, 2)).reshape(-1, self.group_rows)

"""GPTQ's words of 32 bits, with the codes of a row's next weights from the lowest bits up, and scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from convert.rounding import Grid, round_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.rounding import Rounded

WORD_BYTES, SCALE_BYTES = 4, 2


@dataclass(frozen=True, slots=True)
class GptqWords:
    """Whole numbers around a zero in the middle, and a scale of 16 bits for each group of a row."""

    bits: Literal[4, 8]
    group_size: int  # 0: the whole row
    # Each word and each scale is turned as one, where a file has them column by column.
    turned_bytes: ClassVar[tuple[int, int]] = (WORD_BYTES, SCALE_BYTES)

    @property
    def name(self) -> str:
        return f"gptq-{self.bits}bit-{self.group_size or 'row'}"

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored."""
        return Grid(self.bits, self.group_size, store=_to_half)

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        return columns * self.bits // 8, self.grid.groups(columns) * SCALE_BYTES

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        return self.pack(round_rows(rows, self.grid))

    def pack(self, rounded: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store codes that were chosen elsewhere."""
        codes = rounded.codes
        packed = codes if self.bits == 8 else codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
        scales = rounded.scales.scales.astype(np.float16)
        return np.ascontiguousarray(packed), np.ascontiguousarray(scales).view(np.uint8)

    def zeros(self, rows: int, columns: int) -> bytes:
        """Give the zero points of a matrix, which this layout has less one."""
        word = sum((self.grid.middle - 1) << place for place in range(0, 32, self.bits))
        return np.full(self.grid.groups(columns) * rows * self.bits // 32, word, np.uint32).tobytes()

    def groups(self, columns: int) -> bytes:
        """Give the number of each column's group."""
        return (np.arange(columns) // (self.group_size or columns)).astype("<i4").tobytes()


def _to_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)

"""ggml's NVFP4 with the scale of all scales, which it leaves to another tensor: 64 weights, 16 a scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from convert.rounding import Grid, round_rows
from convert.writer.codecs import lanes
from convert.writer.codecs.compensated import KERNEL
from convert.writer.codecs.minifloat import E2M1_CODES, E2M1_LEVELS, E2M1_MAX, E4M3_MAX, e4m3, from_e4m3

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.rounding import Rounded

    Rows = NDArray[np.float32]

# QK_NVFP4, QK_NVFP4_SUB
BLOCK, SHARING = 64, 16
BLOCK_BYTES = BLOCK // SHARING + BLOCK // 2


def scale_of(largest: float) -> float:
    """Find the scale of all scales, by which the largest weight has the largest number that there is."""
    return float(np.float32(largest) / np.float32(E4M3_MAX * E2M1_MAX)) or 1.0


@dataclass(frozen=True, slots=True)
class Nvfp4:
    """Codes of four bits by the scales that lose least, once each is divided by the tensor's own."""

    scale: float = 1.0
    importance: bytes | None = None  # float32, one a column; bytes, so that codecs compare by value
    kernel: ClassVar[str] = KERNEL
    weights_per_s: ClassVar[float] = 5e6  # that one Zen 4 core rounds without a kernel

    @property
    def name(self) -> str:
        return "NVFP4"

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        return (columns // BLOCK * BLOCK_BYTES,)

    def encode(self, rows: Rows) -> tuple[NDArray[np.uint8], ...]:
        weights = None if self.importance is None else np.frombuffer(self.importance, np.float32)
        chosen = round_rows(rows, self.grid, importance=weights, passes=lanes.ready.get(KERNEL))
        return self.pack(chosen)

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored."""
        return Grid(4, SHARING, levels=E2M1_LEVELS, store=self._as_scales, is_signed=False)

    def pack(self, rounded: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store each block's four scales, and the codes of each: the first half below, the second above."""
        scales = e4m3(self._divided(rounded.scales.scales)).reshape(-1, BLOCK // SHARING)
        codes = E2M1_CODES[rounded.codes].reshape(-1, BLOCK // SHARING, SHARING)
        joined = codes[..., : SHARING // 2] | codes[..., SHARING // 2 :] << np.uint8(4)
        blocks = np.concatenate([scales, joined.reshape(len(scales), -1)], axis=1)
        return (blocks.reshape(len(rounded.codes), -1),)

    def _as_scales(self, values: Rows) -> Rows:
        return from_e4m3(e4m3(self._divided(values))) * np.float32(self.scale)

    def _divided(self, values: Rows) -> Rows:
        found: Rows = np.minimum(np.abs(values) / np.float32(self.scale), np.float32(E4M3_MAX))
        return found

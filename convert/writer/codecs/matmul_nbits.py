"""ONNX Runtime's blocks of 4 and 8 bits (MatMulNBits, GatherBlockQuantized), rounded to the nearest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from convert.errors import Failure
from convert.rounding import Grid
from convert.writer.codecs import lanes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from convert.rounding import Rounded

    Rows = NDArray[np.float32]

SCALE_BYTES = {"F32": 4, "F16": 2}
# Weights that are worked on at once: their float32 and what becomes of them stay in a core's cache.
STEP_WEIGHTS = 1 << 16
KERNEL = "MatMulNBits"


@dataclass(frozen=True, slots=True)
class NBits:
    """Whole numbers of 4 or 8 bits, a scale for each block of a row, and maybe a zero point.

    The planes are the packed weights, the scales, and the zero points unless these are all in the middle.
    The bytes are those of onnxruntime's `quantize_matmul_4bits` and `_8bits`.
    """

    bits: Literal[4, 8]
    block_size: int
    is_symmetric: bool = True
    scale: Literal["F32", "F16"] = "F32"
    kernel: ClassVar[str] = KERNEL
    weights_per_s: ClassVar[float] = 400e6  # that one Zen 4 core rounds without a kernel

    @property
    def name(self) -> str:
        return f"int{self.bits}_b{self.block_size}" + ("" if self.is_symmetric else "_zp")

    def blocks(self, columns: int) -> int:
        """Count the blocks of a row."""
        return -(-columns // self.block_size)

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        blocks = self.blocks(columns)
        packed = blocks * self.block_size * self.bits // 8, blocks * SCALE_BYTES[self.scale]
        return packed if self.is_symmetric else (*packed, -(-blocks * self.bits // 8))

    def encode(self, rows: Rows) -> tuple[NDArray[np.uint8], ...]:
        count = len(rows)
        blocks = self._blocks(rows)
        kernel = lanes.ready.get(KERNEL)
        packed, scales, zero_points = self._compiled(blocks, kernel) if kernel else self._computed(blocks)
        packed = packed.reshape(count, -1)
        # Beyond the last weight the reference leaves zeros, whatever number means zero elsewhere.
        packed[:, -(-rows.shape[1] * self.bits // 8) :] = 0
        planes = packed, scales.reshape(count, -1).view(np.uint8)
        return planes if self.is_symmetric else (*planes, self._pack_zero_points(zero_points, count))

    def _computed(self, blocks: Rows) -> tuple[NDArray[np.uint8], NDArray[Any], Rows]:
        """Find the packed weights, the scales as they are stored, and the zero points by numpy."""
        low, high = _bounds(blocks)
        scales, zero_points = self._symmetric(low, high) if self.is_symmetric else self._between(low, high)
        stored = self._stored(scales)
        return self._pack(blocks, stored.astype(np.float32, copy=False), zero_points), stored, zero_points

    def _compiled(self, blocks: Rows, kernel: Any) -> tuple[NDArray[np.uint8], NDArray[Any], Rows]:
        """Find them by a kernel."""
        packed = np.empty((len(blocks), self.block_size * self.bits // 8), np.uint8)
        scales, zero_points = np.empty(len(blocks), np.float32), np.empty(len(blocks), np.float32)
        kernel(blocks, self.bits, self.is_symmetric, self.scale == "F16", scales, zero_points, packed)
        return packed, self._stored(scales), zero_points

    def decode(self, planes: Sequence[NDArray[np.uint8]], columns: int) -> Rows:
        """Read encoded rows again, as onnxruntime does."""
        packed, stored, *zeros = planes
        shape = len(packed), self.blocks(columns)
        scales = stored.view(np.float32 if self.scale == "F32" else np.float16).astype(np.float32)
        middle = np.full(shape, 1 << self.bits - 1, np.float32)
        shifts = self._codes(zeros[0])[:, : shape[1]] if zeros else middle
        codes = self._codes(packed).reshape(*shape, self.block_size)
        wide: Rows = (codes - shifts[..., None]) * scales[..., None]
        return wide.reshape(shape[0], -1)[:, :columns]

    def _codes(self, packed: NDArray[np.uint8]) -> Rows:
        if self.bits == 8:
            return packed.astype(np.float32)
        pairs = np.stack([packed & np.uint8(15), packed >> np.uint8(4)], axis=-1)
        return pairs.reshape(len(packed), -1).astype(np.float32)

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored, for whoever chooses among them."""
        zero: Literal["middle", "whole"] = "middle" if self.is_symmetric else "whole"
        return Grid(self.bits, self.block_size, zero, store=_to_half if self.scale == "F16" else None)

    def pack(self, rounded: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store codes that were chosen elsewhere."""
        count, columns = rounded.codes.shape
        codes = np.pad(rounded.codes, ((0, 0), (0, -columns % self.block_size)))
        packed = codes if self.bits == 8 else codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
        scales = rounded.scales.scales.astype({"F32": np.float32, "F16": np.float16}[self.scale])
        planes = np.ascontiguousarray(packed), np.ascontiguousarray(scales).view(np.uint8)
        if self.is_symmetric:
            return planes
        return (*planes, self._pack_zero_points(rounded.scales.shifts.ravel(), count))

    def _blocks(self, rows: Rows) -> Rows:
        """Cut rows into blocks, (blocks, block_size)."""
        missing = -rows.shape[1] % self.block_size
        if missing:
            rows = np.pad(rows, ((0, 0), (0, missing)))
        return np.require(rows, np.float32, ("C", "A")).reshape(-1, self.block_size)

    def _symmetric(self, low: Rows, high: Rows) -> tuple[Rows, Rows]:
        """Let the weight that is farthest from zero be the lowest number, whatever its sign."""
        middle = np.float32(1 << (self.bits - 1))
        farthest: Rows = np.where(high > -low, high, low)
        scales: Rows = farthest / -middle
        return scales, np.full(len(low), middle, np.float32)

    def _between(self, low: Rows, high: Rows) -> tuple[Rows, Rows]:
        """Stretch all numbers from the lowest to the highest weight, zero always among them."""
        top = np.float32((1 << self.bits) - 1)
        low, high = np.minimum(low, 0), np.maximum(high, 0)
        scales = (high - low) / top
        zero_points = np.zeros_like(low)
        np.divide(-low, scales, out=zero_points, where=scales != 0)
        # Half rounds up here as everywhere below; these are never negative.
        doubled = np.minimum(zero_points, top) * np.float32(2)
        return scales, np.floor((np.floor(doubled) + np.float32(1)) * np.float32(0.5))

    def _stored(self, scales: Rows) -> NDArray[np.float32] | NDArray[np.float16]:
        if self.scale == "F32":
            return scales
        with np.errstate(over="ignore"):
            halves = scales.astype(np.float16)
        if np.isinf(halves).any():
            raise Failure("a weight is larger than a scale of 16 bits can reach", "take the cpu provider")
        return halves

    def _pack(self, blocks: Rows, scales: Rows, zero_points: Rows) -> NDArray[np.uint8]:
        """Round to whole numbers, two of them a byte where they have 4 bits, the first below."""
        doubled_top = np.float32(((1 << self.bits) - 1) * 2)
        doubled_scale = np.zeros_like(scales)
        with np.errstate(over="ignore"):
            np.divide(np.float32(2), scales, out=doubled_scale, where=scales != 0)
        # Next to a scale that is all but zero, so are its weights.
        doubled_scale[np.isinf(doubled_scale)] = 0
        doubled_zero = zero_points * np.float32(2)
        out = np.empty((len(blocks), self.block_size * self.bits // 8), np.uint8)
        step = max(1, STEP_WEIGHTS // self.block_size)
        for first in range(0, len(blocks), step):
            here = slice(first, first + step)
            # Half away from zero, as C's roundf: twice the value is exact, and its whole part is cut off.
            values = blocks[here] * doubled_scale[here, None]
            values += doubled_zero[here, None]
            np.clip(values, np.float32(0), doubled_top, out=values)
            if self.bits == 8:
                whole = values.astype(np.uint16)
                whole += np.uint16(1)
                whole >>= np.uint16(1)
                out[here] = whole
            else:
                out[here] = _nibbles(values)
        return out

    def _pack_zero_points(self, zero_points: Rows, count: int) -> NDArray[np.uint8]:
        """Pack each row's zero points like its weights; a last half byte is in the middle."""
        whole: NDArray[np.uint8] = zero_points.astype(np.uint8).reshape(count, -1)
        if self.bits == 8:
            return whole
        if whole.shape[1] % 2:
            whole = np.pad(whole, ((0, 0), (0, 1)), constant_values=8)
        return whole[:, 0::2] | whole[:, 1::2] << np.uint8(4)


def _to_half(values: Rows) -> Rows:
    return values.astype(np.float16).astype(np.float32)


def _bounds(blocks: Rows) -> tuple[Rows, Rows]:
    """Find each block's lowest and highest weight.

    Side by side first: numpy compares whole rows several times as fast as it goes through short ones.
    """
    count, size = blocks.shape
    low, high = np.empty(count, np.float32), np.empty(count, np.float32)
    step = max(1, STEP_WEIGHTS // size)
    for first in range(0, count, step):
        across = np.ascontiguousarray(blocks[first : first + step].T)
        np.min(across, axis=0, out=low[first : first + step])
        np.max(across, axis=0, out=high[first : first + step])
    return low, high


def _nibbles(doubled: Rows) -> NDArray[np.uint8]:
    whole = doubled.astype(np.uint8)
    whole += np.uint8(1)
    whole >>= np.uint8(1)
    pairs = whole.view("<u2")
    joined = pairs >> np.uint16(4)
    joined |= pairs
    return joined.astype(np.uint8)

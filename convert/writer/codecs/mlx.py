"""MLX's groups of a row: whole numbers with a scale and a bias, or small floats with a scale.

The bytes are those of `mlx.core.quantize` on a CPU, which rounds between steps to the type of the weights
where it makes small floats; Metal does not, and now and then comes to a neighboring number.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from convert.rounding import Grid
from convert.writer.codecs import lanes
from convert.writer.codecs.minifloat import E2M1_CODES, E2M1_LEVELS, e8m0, power_above, restored
from convert.writer.codecs.plain import WIDTH_BYTES, Plain, is_bf16, to_bf16

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from convert.rounding import Rounded

    Rows = NDArray[np.float32]

Float = Literal["F32", "F16", "BF16"]
Mode = Literal["mxfp4", "nvfp4", "mxfp8"]
# A scale is never smaller, so that a group of one number has one.
LEAST_SCALE = np.float32(1e-7)
# Bits, and weights that share a scale.
SIZES: dict[Mode, tuple[int, int]] = {"mxfp4": (4, 32), "nvfp4": (4, 16), "mxfp8": (8, 32)}
# Half way between the numbers that 4 bits can be; what lies there goes towards zero.
HALF_WAY = np.array([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0], np.float32)
LARGEST = {4: 6.0, 8: 448.0}
EXPONENT_BIAS = 127
# Weights that are worked on at once: their float32 and what becomes of them stay in a core's cache.
STEP_WEIGHTS = 1 << 16
KERNEL = "MLX"


@dataclass(frozen=True, slots=True)
class Affine:
    """Whole numbers from 2 to 8 bits; the planes are the packed numbers, the scales and the biases."""

    bits: Literal[2, 3, 4, 5, 6, 8]
    group_size: Literal[32, 64, 128]
    dtype: Float  # of the scales and biases, and what the weights are rounded to before
    kernel: ClassVar[str] = KERNEL
    weights_per_s: ClassVar[float] = 60e6  # that one Zen 4 core rounds without a kernel

    @property
    def name(self) -> str:
        return f"{self.bits}bit_g{self.group_size}"

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        scales = columns // self.group_size * WIDTH_BYTES[self.dtype]
        return columns * self.bits // 8, scales, scales

    def encode(self, rows: Rows) -> tuple[NDArray[np.uint8], ...]:
        count, columns = rows.shape
        if kernel := lanes.ready.get(KERNEL):
            packed, scales, biases = self._compiled(rows, kernel)
        else:
            packed, scales, biases = self._computed(rounded(rows, self.dtype).reshape(-1, self.group_size))
        small = (Plain(self.dtype).encode(each.reshape(count, -1))[0] for each in (scales, biases))
        return packed.reshape(count, columns * self.bits // 8), *small

    def _computed(self, groups: Rows) -> tuple[NDArray[np.uint8], Rows, Rows]:
        """Find the packed numbers, the scales and the biases of groups by numpy."""
        scales, biases, packed = self._room(len(groups))
        step = STEP_WEIGHTS // self.group_size
        for first in range(0, len(groups), step):
            here = slice(first, first + step)
            across = np.ascontiguousarray(groups[here].T)
            scales[here], biases[here] = self._scales(across.min(axis=0), across.max(axis=0))
            values = groups[here] - biases[here, None]
            values /= scales[here, None]
            np.rint(values, out=values)
            np.clip(values, np.float32(0), np.float32(self._top), out=values)
            packed[here] = pack(values.astype(np.uint8), self.bits)
        return packed, scales, biases

    def _compiled(self, rows: Rows, kernel: Any) -> tuple[NDArray[np.uint8], Rows, Rows]:
        """Find them by a kernel."""
        values = (
            rounded(rows, self.dtype) if self.dtype == "F16" else np.require(rows, np.float32, ("C", "A"))
        )
        groups = values.reshape(-1, self.group_size)
        scales, biases, packed = self._room(len(groups))
        kernel(groups, self.dtype == "BF16", self.bits, scales, biases, packed)
        return packed, scales, biases

    def _room(self, groups: int) -> tuple[Rows, Rows, NDArray[np.uint8]]:
        packed = np.empty((groups, self.group_size * self.bits // 8), np.uint8)
        return np.empty(groups, np.float32), np.empty(groups, np.float32), packed

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored, for whoever chooses among them."""
        return Grid(self.bits, self.group_size, "free", store=partial(rounded, dtype=self.dtype))

    def pack(self, chosen: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store codes that were chosen elsewhere."""
        numbers = chosen.scales.scales, chosen.scales.shifts
        return pack(chosen.codes, self.bits), *(Plain(self.dtype).encode(each)[0] for each in numbers)

    def decode(self, planes: Sequence[NDArray[np.uint8]], columns: int) -> Rows:
        """Read encoded rows again, as MLX does."""
        packed, *numbers = planes
        bits = np.unpackbits(packed, axis=1, bitorder="little").reshape(len(packed), columns, self.bits)
        codes = np.packbits(bits, axis=2, bitorder="little")[..., 0].astype(np.float32)
        scales, biases = (np.repeat(restored(each, self.dtype), self.group_size, axis=1) for each in numbers)
        return codes * scales + biases

    @property
    def _top(self) -> int:
        return (1 << self.bits) - 1

    def _scales(self, low: Rows, high: Rows) -> tuple[Rows, Rows]:
        """Let the end that is farther from zero, and zero itself, be whole numbers of steps."""
        is_low = np.abs(low) > np.abs(high)
        scales = np.maximum((high - low) / np.float32(self._top), LEAST_SCALE)
        scales = np.where(is_low, scales, -scales)
        edges = np.where(is_low, low, high)
        steps = np.rint(edges / scales)
        has_steps = steps != 0
        np.divide(edges, steps, out=scales, where=has_steps)
        return scales, np.where(has_steps, edges, np.float32(0))


@dataclass(frozen=True, slots=True)
class SmallFloat:
    """Floats of 4 or 8 bits under a scale of 8 bits; the planes are the packed floats and the scales."""

    mode: Mode
    dtype: Float  # what the weights are rounded to before, and between steps
    weights_per_s: ClassVar[float] = 40e6  # that one Zen 4 core rounds

    @property
    def name(self) -> str:
        return self.mode

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        bits, group_size = SIZES[self.mode]
        return columns * bits // 8, columns // group_size

    def encode(self, rows: Rows) -> tuple[NDArray[np.uint8], ...]:
        count = len(rows)
        bits, group_size = SIZES[self.mode]
        groups = rounded(rows, self.dtype).reshape(-1, group_size)
        scales = np.empty(len(groups), np.uint8)
        packed = np.empty((len(groups), group_size * bits // 8), np.uint8)
        step = STEP_WEIGHTS // group_size
        for first in range(0, len(groups), step):
            here = slice(first, first + step)
            largest = np.abs(np.ascontiguousarray(groups[here].T)).max(axis=0)
            largest = rounded(largest / np.float32(LARGEST[bits]), self.dtype)
            scales[here], divisors = self._fraction(largest) if self.mode == "nvfp4" else self._power(largest)
            values = np.zeros_like(groups[here])
            np.divide(groups[here], divisors[:, None], out=values, where=divisors[:, None] != 0)
            values = rounded(values, self.dtype)
            packed[here] = pack(_nearest(values), 4) if bits == 4 else to_e4m3(values)
        return packed.reshape(count, -1), scales.reshape(count, -1)

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored, where they are few."""
        bits, group_size = SIZES[self.mode]
        store = self._nearest_fraction if self.mode == "nvfp4" else power_above
        return Grid(bits, group_size, levels=E2M1_LEVELS, store=store, is_signed=False)

    def pack(self, chosen: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store codes that were chosen elsewhere."""
        scales = chosen.scales.scales
        codes = to_e4m3(scales) if self.mode == "nvfp4" else e8m0(scales)
        return pack(E2M1_CODES[chosen.codes], 4), codes

    @staticmethod
    def _nearest_fraction(scales: Rows) -> Rows:
        return E4M3[to_e4m3(scales)]

    def _power(self, largest: Rows) -> tuple[NDArray[np.uint8], Rows]:
        """Take the least power of two that no weight overflows; of nothing it is one."""
        logarithms = np.zeros(len(largest))
        np.log2(largest, out=logarithms, where=largest != 0)
        exponents = np.ceil(logarithms.astype(np.float32))
        exponents = np.maximum(exponents, np.float32(-EXPONENT_BIAS))
        powers = rounded(np.exp2(exponents.astype(np.float64)).astype(np.float32), self.dtype)
        return (exponents + np.float32(EXPONENT_BIAS)).astype(np.uint8), powers

    @staticmethod
    def _fraction(largest: Rows) -> tuple[NDArray[np.uint8], Rows]:
        """Round a scale to 8 bits."""
        codes = to_e4m3(largest)
        return codes, E4M3[codes]


def _nearest(values: Rows) -> NDArray[np.uint8]:
    codes = np.zeros(values.shape, np.uint8)
    sizes = np.abs(values)
    for border in HALF_WAY:
        codes += sizes > border
    # There is no negative zero.
    codes |= ((values < 0) & (codes != 0)).astype(np.uint8) << np.uint8(3)
    return codes


def pack(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Put numbers side by side, from the lowest bit on."""
    if bits == 8:
        return codes
    if bits in (2, 4):
        per_byte = 8 // bits
        found = codes[:, 0::per_byte].copy()
        for place in range(1, per_byte):
            found |= codes[:, place::per_byte] << np.uint8(place * bits)
        return found
    # 8 numbers fill as many bytes as they have bits.
    eight = codes.reshape(len(codes), -1, 8).astype(np.uint64)
    whole = eight[:, :, 0].copy()
    for place in range(1, 8):
        whole |= eight[:, :, place] << np.uint64(place * bits)
    parts = whole.astype("<u8")[:, :, None].view(np.uint8)[:, :, :bits]
    return parts.reshape(len(codes), -1)


def rounded(values: Rows, dtype: Float) -> Rows:
    """Round to a type, and widen again."""
    if dtype == "F32":
        return np.ascontiguousarray(values, np.float32)
    if dtype == "F16":
        return np.asarray(Plain("F16").encode(values)[0].view(np.float16), np.float32)
    values = np.ascontiguousarray(values, np.float32)
    return (
        values if is_bf16(values) else (to_bf16(values).astype(np.uint32) << np.uint32(16)).view(np.float32)
    )


def _e4m3() -> Rows:
    codes = np.arange(256)
    exponents, fractions = codes >> 3 & 15, codes & 7
    sizes = np.where(exponents == 0, fractions / 8 * 2.0**-6, (1 + fractions / 8) * 2.0 ** (exponents - 7))
    return np.where(codes < 128, sizes, -sizes).astype(np.float32)


# The numbers that 8 bits can be: four of exponent, three of fraction.
E4M3 = _e4m3()
# The smallest with a whole fraction, and the largest.
_NORMAL, _MOST = np.float32(2.0**-6), np.int32(0x7E)


def to_e4m3(values: Rows) -> NDArray[np.uint8]:
    """Round to the nearest of them, ties to even, and no further than the largest."""
    bits = np.abs(values).view(np.int32)
    codes = bits + np.int32(0x7FFFF)
    codes += bits >> np.int32(20) & np.int32(1)
    codes >>= np.int32(20)
    codes -= np.int32((127 - 7) << 3)
    small = bits.view(np.float32) < _NORMAL
    codes[small] = np.rint(bits.view(np.float32)[small] * np.float32(512)).astype(np.int32)
    np.minimum(codes, _MOST, out=codes)
    return codes.astype(np.uint8) | np.signbit(values).view(np.uint8) << np.uint8(7)

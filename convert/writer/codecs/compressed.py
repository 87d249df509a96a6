"""Matrices as compressed-tensors stores them: codes of 8 or 4 bits, and a scale for each block of them.

Every step is rounded to the float that the source has, as the reference's tensors round: the bytes are those
of llmcompressor's `model_free_ptq` for weights of that type.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from convert.rounding import Grid
from convert.writer.codecs import lanes
from convert.writer.codecs.minifloat import (
    E2M1_CODES,
    E2M1_LEVELS,
    E2M1_MAX,
    E4M3_MAX,
    EPSILON,
    Float,
    e2m1,
    e4m3,
    e8m0,
    from_e4m3,
    power_above,
    restored,
    rounded,
    stored,
)
from convert.writer.codecs.plain import is_bf16

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from numpy.typing import NDArray

    from convert.rounding import Rounded

    Rows = NDArray[np.float32]
    Planes = tuple[NDArray[np.uint8], ...]

Element = Literal["FP8", "INT8", "INT4", "FP4"]
Scale = Literal["FLOAT", "E8M0", "E4M3"]
BITS: dict[Element, int] = {"FP8": 8, "INT8": 8, "INT4": 4, "FP4": 4}
FLOAT_BYTES: dict[Float, int] = {"F32": 4, "F16": 2, "BF16": 2}
# A scale of E4M3 that would be zero: the reference's own least one.
LEAST_E4M3 = 0.125
# The exponent of the largest number that the elements hold.
TOP_EXPONENT: dict[Element, int] = {"FP8": 8, "FP4": 2}
# Bits of a float's mantissa and exponent.
MANTISSA: dict[Float, tuple[int, int]] = {"F32": (23, 8), "F16": (10, 5), "BF16": (7, 8)}
LEAST_NORMAL: dict[Float, float] = {"F32": 2.0**-126, "F16": 2.0**-14, "BF16": 2.0**-126}
WORD_BITS = 32
WHOLE_BYTE = 8
KERNEL = "Compressed"
# What the kernel calls the elements.
KINDS: dict[Element, int] = {"FP8": 0, "FP4": 1, "INT8": 2, "INT4": 2}


@dataclass(frozen=True, slots=True)
class Compressed:
    """Codes, scales, and zero points where zero is not in the middle; one plane each, in this order."""

    element: Element
    float_name: Float  # of the source, and of what is computed in
    columns: int = 0  # of a block; 0: the whole row
    rows: int = 1  # of a block
    scale: Scale = "FLOAT"
    is_packed: bool = False  # integers without a sign, in words
    is_symmetric: bool = True
    global_scale: float = 1.0  # by which scales of E4M3 are multiplied
    kernel: ClassVar[str] = KERNEL
    weights_per_s: ClassVar[float] = 40e6  # that one Zen 4 core rounds without a kernel

    @property
    def name(self) -> str:
        block = (
            "row"
            if not self.columns
            else f"{self.columns}"
            if self.rows == 1
            else f"{self.rows}x{self.columns}"
        )
        scale = "" if self.scale == "FLOAT" else f"_{self.scale.lower()}"
        return f"{self.element.lower()}_{block}{scale}" + ("" if self.is_symmetric else "_zp")

    @property
    def bits(self) -> int:
        return BITS[self.element]

    @property
    def plane_rows(self) -> tuple[int, ...]:
        """Say how many rows share one of each plane's."""
        zeros = () if self.is_symmetric else (WORD_BITS // self.bits,)
        return (1, self.rows, *zeros)

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        blocks = self.blocks(columns)
        scale = FLOAT_BYTES[self.float_name] if self.scale == "FLOAT" else 1
        zeros = () if self.is_symmetric else (blocks * WORD_BITS // 8,)
        return (columns * self.bits // 8, blocks * scale, *zeros)

    def blocks(self, columns: int) -> int:
        """Count the blocks of a row."""
        return -(-columns // self.columns) if self.columns else 1

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored, for whoever chooses among them."""
        if self.element == "FP4":
            return Grid(self.bits, self.columns, levels=E2M1_LEVELS, store=self._as_scales, is_signed=False)
        zero: Literal["middle", "whole"] = "middle" if self.is_symmetric else "whole"
        return Grid(self.bits, self.columns, zero, store=self._as_scales, is_signed=False)

    def pack(self, chosen: Rounded) -> Planes:
        """Store codes that were chosen elsewhere."""
        scales, shifts = chosen.scales.scales, chosen.scales.shifts
        codes = E2M1_CODES[chosen.codes] if self.element == "FP4" else chosen.codes
        if self.scale == "E4M3":
            scales = scales * np.float32(self.global_scale)
        planes = self._joined(codes), self._stored_scales(scales)
        if self.is_symmetric:
            return planes
        return (*planes, self._packed_zeros(shifts - np.float32(1 << self.bits - 1)))

    def _as_scales(self, values: Rows) -> Rows:
        """Round to what a scale can be."""
        if self.scale == "E8M0":
            return power_above(values)
        if self.scale == "FLOAT":
            return rounded(values, self.float_name)
        whole = np.minimum(values * np.float32(self.global_scale), np.float32(E4M3_MAX))
        return from_e4m3(e4m3(whole)) / np.float32(self.global_scale)

    def encode(self, rows: Rows) -> Planes:
        values = np.require(rows, np.float32, ("C", "A"))
        if self.float_name != "BF16" or not is_bf16(values):
            values = rounded(values, self.float_name)
        scales, zeros = self.fit(values)
        return self.store(values, scales, zeros)

    def decode(self, planes: Sequence[NDArray[np.uint8]], columns: int) -> Rows:
        """Read packed whole numbers again, as the library does."""
        packed, stored_scales, *zeros = planes
        half = np.float32(1 << self.bits - 1)
        codes = packed if self.bits == WHOLE_BYTE else np.stack([packed & 15, packed >> 4], 2)
        codes = codes.reshape(len(packed), -1)[:, :columns].astype(np.float32) - half
        width = self.columns or columns
        if zeros:
            codes -= np.repeat(self._unpacked_zeros(zeros[0], len(packed)), width, axis=1)[:, :columns]
        scales = np.repeat(restored(stored_scales, self.float_name), width, axis=1)[:, :columns]
        return codes * scales

    def fit(self, rows: Rows) -> tuple[Rows, Rows | None]:
        """Find each block's scale, and its zero point where it has one."""
        if not self.is_symmetric:
            low, high = self._bounds(rows)
            return self._between(np.minimum(low, 0), np.maximum(high, 0))
        most = self._largest(rows)
        if self.scale == "E8M0":
            return self._power(most), None
        if self.scale == "E4M3":
            local = rounded(most / np.float32(E2M1_MAX), self.float_name) * np.float32(self.global_scale)
            scales = from_e4m3(e4m3(np.minimum(local, np.float32(E4M3_MAX))))
            scales[scales == 0] = LEAST_E4M3
            return scales, None
        scales = rounded(most / np.float32(self._top), self.float_name)
        scales[scales == 0] = EPSILON[self.float_name]
        return scales, None

    def store(self, rows: Rows, scales: Rows, zeros: Rows | None = None) -> Planes:
        """Round to the grid that the scales make, and pack."""
        divisors = scales
        if self.scale == "E4M3":
            divisors = scales / np.float32(self.global_scale)
        each = np.repeat(divisors, self.rows, axis=0)[: len(rows)] if self.rows > 1 else divisors
        cells, shape = self._cells(rows), rows.shape
        if (kernel := lanes.ready.get(KERNEL)) and zeros is None and self.float_name != "F16":
            planes = self._quick(kernel, cells, each)[:, : shape[1]], self._stored_scales(scales)
            return np.ascontiguousarray(self._joined(planes[0])), planes[1]
        with np.errstate(over="ignore"):  # what is beyond the range is cut below
            values = cells / each[:, :, None]
        if self.scale != "E4M3":
            values = rounded(values, self.float_name)
        if zeros is not None:
            values = rounded(values + zeros[:, :, None], self.float_name)
        codes = self._codes(values.reshape(len(rows), -1)[:, : shape[1]])
        planes = codes, self._stored_scales(scales)
        return planes if zeros is None else (*planes, self._packed_zeros(zeros))

    @property
    def _range(self) -> tuple[float, float]:
        if self.element in TOP_EXPONENT:
            top = E4M3_MAX if self.element == "FP8" else E2M1_MAX
            return -top, top
        half = float(1 << self.bits - 1)
        return -half, half - 1

    @property
    def _top(self) -> float:
        low, high = self._range
        return (high - low) / 2

    def _cells(self, rows: Rows) -> Rows:
        """Cut rows into blocks of columns, (rows, blocks, columns of a block)."""
        width = self.columns or rows.shape[1]
        if missing := -rows.shape[1] % width:
            rows = np.pad(rows, ((0, 0), (0, missing)))
        return rows.reshape(len(rows), -1, width)

    def _largest(self, rows: Rows) -> Rows:
        """Find the size of each block's largest weight."""
        kernel = lanes.ready.get(KERNEL)
        if kernel is None:
            most: Rows = np.abs(self._bounds(rows)).max(0)
            return most
        cells = self._cells(rows)
        found = np.empty(cells.shape[0] * cells.shape[1], np.uint32)
        kernel.largest(np.ascontiguousarray(cells).reshape(len(found), -1).view(np.uint32), found)
        sizes: Rows = found.view(np.float32).reshape(cells.shape[:2])
        if self.rows > 1:
            filled = np.pad(sizes, ((0, -len(rows) % self.rows), (0, 0)))
            sizes = filled.reshape(-1, self.rows, sizes.shape[1]).max(1)
        return sizes

    def _quick(self, kernel: Any, cells: Rows, divisors: Rows) -> NDArray[np.uint8]:
        """Encode by the kernel, a byte each; whole numbers come counted from the lowest."""
        blocks = np.ascontiguousarray(cells).reshape(cells.shape[0] * cells.shape[1], -1)
        out = np.empty(blocks.shape, np.uint8)
        is_narrow = self.scale != "E4M3" and self.float_name == "BF16"
        bounds = map(np.float32, self._range)
        scales = np.ascontiguousarray(divisors, np.float32).reshape(-1)
        kernel.codes(blocks, scales, is_narrow, KINDS[self.element], *bounds, out)
        return out.reshape(len(cells), -1)

    def _bounds(self, rows: Rows) -> tuple[Rows, Rows]:
        cells = self._cells(rows)
        low, high = cells.min(2), cells.max(2)
        if self.rows == 1:
            return low, high
        # What is missing of the last block is filled with zeros, as the columns are.
        if missing := -len(rows) % self.rows:
            low, high = (np.pad(each, ((0, missing), (0, 0))) for each in (low, high))
        by_block = (-1, self.rows, low.shape[1])
        return low.reshape(by_block).min(1), high.reshape(by_block).max(1)

    def _between(self, low: Rows, high: Rows) -> tuple[Rows, Rows]:
        """Stretch the numbers from the lowest to the highest weight."""
        least, most = self._range
        scales = rounded(rounded(high - low, self.float_name) / np.float32(most - least), self.float_name)
        shifts = np.zeros_like(low)
        np.divide(low, scales, out=shifts, where=scales != 0)
        zeros = rounded(np.float32(least) - rounded(shifts, self.float_name), self.float_name)
        zeros = np.rint(np.clip(zeros, np.float32(least), np.float32(most)))
        is_flat = scales == 0
        zeros[is_flat] = np.where(low[is_flat] < 0, np.float32(most), 0)  # as a division by zero is cut
        scales[is_flat] = EPSILON[self.float_name]
        return scales, zeros

    def _power(self, most: Rows) -> Rows:
        """Round to a power of two, up where FP4's mantissa rounds up, and leave room for the elements."""
        mantissa, exponent_bits = MANTISSA[self.float_name]
        width = np.uint32 if self.float_name == "F32" else np.uint16
        bits = stored(most, self.float_name).view(width).astype(np.uint32)
        bits += np.uint32(1 << (mantissa - 2))
        exponents = (bits >> np.uint32(mantissa)).astype(np.int64) - ((1 << exponent_bits - 1) - 1)
        is_zero = bits >> np.uint32(mantissa) == 0
        codes = np.clip(exponents - TOP_EXPONENT[self.element] + 127, 0, 255)
        codes[is_zero] = 0
        powers = np.ldexp(np.float32(1), (codes - 127).astype(np.int32))
        scales = rounded(powers, self.float_name)
        scales[scales == 0] = 1  # what a float of 16 bits cannot hold
        return scales

    def _codes(self, values: Rows) -> NDArray[np.uint8]:
        low, high = self._range
        values = np.clip(values, np.float32(low), np.float32(high))
        if self.element == "FP8":
            return e4m3(values)
        if self.element == "FP4":
            return self._joined(e2m1(values))
        return self._joined((np.rint(values, out=values) - np.float32(low)).astype(np.uint8))

    def _joined(self, codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Put codes as they are stored, of a byte each: whole numbers are counted from the lowest."""
        if self.bits == 4:
            return _nibbles(codes)
        is_signed = self.element == "INT8" and not self.is_packed
        return codes ^ np.uint8(0x80) if is_signed else codes

    def _stored_scales(self, scales: Rows) -> NDArray[np.uint8]:
        if self.scale == "E4M3":
            return e4m3(scales)
        if self.scale == "E8M0":
            return e8m0(scales)
        return stored(scales, self.float_name)

    def _packed_zeros(self, zeros: Rows) -> NDArray[np.uint8]:
        """Pack zero points down the rows, so many to a word."""
        bits = self.bits
        per_word = WORD_BITS // bits
        codes = (zeros.astype(np.int32) + (1 << bits - 1)).astype(np.uint32)
        codes = np.pad(codes, ((0, -len(codes) % per_word), (0, 0))).reshape(-1, per_word, codes.shape[1])
        shifts = np.arange(per_word, dtype=np.uint32)[:, None] * np.uint32(bits)
        words = np.bitwise_or.reduce(codes << shifts, axis=1)
        return np.ascontiguousarray(words, "<u4").view(np.uint8)

    def _unpacked_zeros(self, packed: NDArray[np.uint8], rows: int) -> Rows:
        per_word = WORD_BITS // self.bits
        shifts = np.arange(per_word, dtype=np.uint32)[:, None] * np.uint32(self.bits)
        codes = packed.view("<u4")[:, None, :] >> shifts & np.uint32((1 << self.bits) - 1)
        found: Rows = codes.reshape(-1, codes.shape[2])[:rows].astype(np.float32)
        found -= np.float32(1 << self.bits - 1)
        return found


def shared_scale(most: float, float_name: Float) -> float:
    """Find NVFP4's scale for all scales of a matrix, or of several that are computed as one."""
    least = np.array([max(most, LEAST_NORMAL[float_name])], np.float32)
    with np.errstate(over="ignore"):
        # As torch divides a number by a tensor.
        inverse = rounded(np.float32(1) / least, float_name)
        found = rounded(inverse * np.float32(E4M3_MAX * E2M1_MAX), float_name)[0]
    return float(found) if math.isfinite(found) else 1.0


def _nibbles(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put two codes of four bits into a byte, the first below."""
    joined: NDArray[np.uint8] = codes[:, 0::2] | codes[:, 1::2] << np.uint8(4)
    return joined

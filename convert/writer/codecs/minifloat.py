"""Small floats by integer arithmetic in numpy: ties go to the even one, as IEEE rounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

Float = Literal["F32", "F16", "BF16"]
EPSILON: dict[Float, float] = {"F32": 2.0**-23, "F16": 2.0**-10, "BF16": 2.0**-7}
E4M3_MAX, E2M1_MAX = 448.0, 6.0
# What FP4 can be, in the order of the numbers, and the code of each.
E2M1_LEVELS = (-6.0, -4.0, -3.0, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
E2M1_CODES = np.array([15, 14, 13, 12, 11, 10, 9, 0, 1, 2, 3, 4, 5, 6, 7], np.uint8)
LEAST_POWER = 2.0**-126


def rounded(rows: Rows, float_name: Float) -> Rows:
    """Round to what a wider or narrower float can hold, and return it in float32."""
    if float_name == "F32":
        return rows
    if float_name == "F16":
        with np.errstate(over="ignore"):
            return rows.astype(np.float16).astype(np.float32)
    bits = rows.view(np.uint32)
    odd = bits >> np.uint32(16)
    odd &= np.uint32(1)
    odd += np.uint32(0x7FFF)
    odd += bits
    odd &= np.uint32(0xFFFF0000)
    return odd.view(np.float32)


def stored(values: Rows, float_name: Float) -> NDArray[np.uint8]:
    """Give the bytes of numbers that a float holds exactly, row by row."""
    if float_name == "F32":
        return np.ascontiguousarray(values).view(np.uint8)
    if float_name == "F16":
        return values.astype(np.float16, order="C").view(np.uint8)
    halves = np.ascontiguousarray(values).view(np.uint32) >> np.uint32(16)
    return halves.astype(np.uint16).view(np.uint8)


def restored(plane: NDArray[np.uint8], float_name: Float) -> Rows:
    """Read the floats of a plane."""
    if float_name == "BF16":
        return (plane.view("<u2").astype(np.uint32) << np.uint32(16)).view(np.float32)
    return plane.view("<f4" if float_name == "F32" else "<f2").astype(np.float32)


def e4m3(values: Rows) -> NDArray[np.uint8]:
    """Encode in FP8 (E4M3, without infinities) what lies within its range."""
    codes = _codes(values, mantissa_bits=3, bias=7)
    codes |= (values.view(np.uint32) >> np.uint32(24)).astype(np.uint8) & np.uint8(0x80)
    return codes


def from_e4m3(codes: NDArray[np.uint8]) -> Rows:
    """Decode FP8."""
    return np.take(_E4M3, codes)


def e2m1(values: Rows) -> NDArray[np.uint8]:
    """Encode in FP4 (E2M1) what lies within its range, a byte each; a zero has no sign."""
    codes = _codes(values, mantissa_bits=1, bias=1)
    codes |= (values < 0).astype(np.uint8) << np.uint8(3)
    return codes


def power_above(scales: Rows) -> Rows:
    """Round up to a power of two that a scale of 8 bits can be, the least for nothing."""
    powers = np.zeros_like(scales)
    np.log2(scales, out=powers, where=scales > 0)
    exponents = np.clip(np.ceil(powers), -126, 127)
    return np.where(scales > 0, np.exp2(exponents), np.float32(LEAST_POWER)).astype(np.float32)


def e8m0(powers: Rows) -> NDArray[np.uint8]:
    """Encode powers of two by their exponents."""
    return (np.frexp(powers)[1] + 126).astype(np.uint8)


def _codes(values: Rows, mantissa_bits: int, bias: int) -> NDArray[np.uint8]:
    """Encode without the sign."""
    size = values.view(np.uint32) & np.uint32(0x7FFFFFFF)
    # Below the least normal number steps are even: to add a large power of two leaves whole steps.
    magic = np.float32(2.0 ** (24 - bias - mantissa_bits))
    small = (size.view(np.float32) + magic).view(np.uint32) - magic.view(np.uint32)
    shift = np.uint32(23 - mantissa_bits)
    normal = size >> shift
    normal &= np.uint32(1)
    normal += (np.uint32(1) << (shift - np.uint32(1))) - np.uint32(1)
    normal += size
    normal >>= shift
    normal -= np.uint32((127 - bias) << mantissa_bits)
    least = np.float32(2.0 ** (1 - bias)).view(np.uint32)
    return np.where(size < least, small, normal).astype(np.uint8)


def _e4m3_values() -> Rows:
    codes = np.arange(256)
    exponents, mantissas = codes >> 3 & 15, codes & 7
    sizes = np.where(exponents > 0, np.ldexp(1 + mantissas / 8, exponents - 7), np.ldexp(mantissas / 8.0, -6))
    sizes[codes & 0x7F == 0x7F] = np.nan
    return np.where(codes & 0x80, -sizes, sizes).astype(np.float32)


_E4M3 = _e4m3_values()

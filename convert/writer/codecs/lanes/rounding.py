"""Rounding lane by lane, as ggml and others do it."""

from convert.writer.codecs.lanes.jit import part
from convert.writer.codecs.lanes.vector import (
    HAS_ROUNDED,
    Vector,
    bits_of,
    float_of_bits,
    larger,
    rounded,
    select,
    smaller,
)

_UPPER = -0x10000  # those bits of a float32 that a bfloat16 has
_TO_INFINITY, _TO_ZERO = 2.0**112, 2.0**-110


@part
def nearest(value: Vector) -> Vector:
    """Round to an integer with ggml's nearest_int: what is too large for it comes out as it does there."""
    return (bits_of(value + 12582912.0) & 0x007FFFFF) - 0x00400000


@part
def clamp(value: Vector, low: Vector, high: Vector) -> Vector:
    """Keep numbers within bounds."""
    return larger(smaller(value, high), low)


@part
def to_half(value: Vector) -> Vector:
    """Round to the bits of a float16, ties to even: ggml_compute_fp32_to_fp16."""
    bits = bits_of(value)
    bias = larger(bits & 0x7F800000, 0x38800000) + 0x07800000
    base = bits_of(float_of_bits(bias) + (abs(value) * _TO_INFINITY) * _TO_ZERO)
    rounded = ((base >> 13) & 0x7C00) + (base & 0x0FFF)
    is_nan = (bits & 0x7FFFFFFF) > 0x7F800000
    return ((bits >> 16) & 0x8000) | select(is_nan, 0x7E00, rounded)


@part
def narrowed(value: Vector) -> Vector:
    """Round to bfloat16, ties to even."""
    bits = bits_of(value)
    return float_of_bits((bits + ((bits >> 16) & 1) + 0x7FFF) & _UPPER)


@part
def of_half(half: Vector) -> Vector:
    """Widen the bits of a float16."""
    exponent_and_fraction = (half & 0x7FFF) << 13
    finite = bits_of(float_of_bits(exponent_and_fraction) * _TO_INFINITY)
    magnitude = select((half & 0x7C00) == 0x7C00, exponent_and_fraction | 0x7F800000, finite)
    return float_of_bits(((half & 0x8000) << 16) | magnitude)


@part
def level_of(value: Vector, low: int, high: int) -> Vector:
    """Round and clamp to integers as `clamp(nearest(value), low, high)` does, and give them as floats.

    The integer's bits become those of a float that is 12582912 larger, in which it can be clamped.
    """
    bits = (bits_of(value + 12582912.0) & 0x007FFFFF) | 0x4B000000
    return float_of_bits(larger(smaller(bits, 0x4B400000 + high), 0x4B400000 + low)) - 12582912.0


@part
def whole(value: Vector) -> Vector:
    """Round to an integer that is a float still, as `nearest` does up to 4,194,304 from zero."""
    if HAS_ROUNDED:
        return rounded(value)
    return value + 12582912.0 - 12582912.0

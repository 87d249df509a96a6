"""compressed-tensors: the passes over all weights; numpy finds the scales between them.

Numbers of a block follow each other, so each vector has neighbors of one block.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from convert.writer.codecs.lanes.jit import LINE, ROWS, Bytes, Floats, kernel_as, part
from convert.writer.codecs.lanes.memory import load, store_bytes
from convert.writer.codecs.lanes.rounding import narrowed, whole
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Vector,
    bits_of,
    larger,
    select,
    smaller,
    to_int,
)

BITS = numba.types.Array(numba.uint32, 2, "C", readonly=True)
FP8, FP4, INTEGER = 0, 1, 2
SIZE = 0x7FFFFFFF  # of the bits of a float32: all but the sign
# Of a small float, as bits of a float32: where its lowest bit is, what is added to round, the least normal
# number, the largest, and how far the exponents are apart. Then a power of two that leaves whole steps below
# the least normal number, and its bits.
E4M3 = (20, 0x7FFFF, 0x3C800000, 0x43E00000, 960, np.float32(16384.0), 0x46800000)
E2M1 = (22, 0x1FFFFF, 0x3F800000, 0x40C00000, 252, np.float32(4194304.0), 0x4A800000)


@kernel_as(numba.void(BITS, numba.uint32[::1]))
def largest(blocks: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Find the bits of each block's largest size: without the sign they are in the order of the sizes."""
    for block in range(blocks.shape[0]):
        most = np.uint32(0)
        for i in range(blocks.shape[1]):
            most = max(most, np.uint32(blocks[block, i] & np.uint32(0x7FFFFFFF)))
        out[block] = most


@part
def unsigned(value: Vector, kind: Any) -> Vector:
    """Encode a number's size in a small float, no further than the largest."""
    shift, half, least, most, apart, magic, magic_bits = kind
    size = smaller(bits_of(value) & SIZE, most)
    normal = ((size + ((size >> shift) & 1) + half) >> shift) - apart
    small = bits_of(abs(value) + magic) - magic_bits
    return select(size < least, small, normal)


@part
def fp8(value: Vector) -> Vector:
    """Encode in E4M3."""
    return unsigned(value, E4M3) | ((bits_of(value) >> 24) & 0x80)


@part
def fp4(value: Vector) -> Vector:
    """Encode in E2M1; a zero has no sign."""
    code = unsigned(value, E2M1)
    return select(value != 0.0, code | ((bits_of(value) >> 28) & 8), code)


@part
def code_of(quotient: Vector, is_narrow: bool, kind: int, low: Any, high: Any) -> Vector:
    """Round to what is stored."""
    value = narrowed(quotient) if is_narrow else quotient
    if kind == FP8:
        return fp8(value)
    if kind == FP4:
        return fp4(value)
    return to_int(whole(smaller(larger(value, low), high)) - low)


@kernel_as(
    numba.void(ROWS, LINE, numba.boolean, numba.intp, numba.float32, numba.float32, numba.uint8[:, ::1])
)
def codes(
    blocks: Floats, scales: Floats, is_narrow: bool, kind: int, low: Any, high: Any, out: Bytes
) -> None:
    """Divide by each block's scale, round to BF16 where that is the source's float, and encode."""
    count, size = blocks.shape
    some, some_codes = np.zeros(WIDTH, np.float32), np.empty(WIDTH, np.uint8)
    rest = size % WIDTH
    for block in range(count):
        scale, at = scales[block], block * size
        for i in range(at, at + size - rest, WIDTH):
            store_bytes(out, i, code_of(load(blocks, i) / scale, is_narrow, kind, low, high))
        if rest:
            first = size - rest
            some[:rest] = blocks[block, first:]
            store_bytes(some_codes, 0, code_of(load(some, 0) / scale, is_narrow, kind, low, high))
            out[block, first:] = some_codes[:rest]


class Passes(NamedTuple):
    """What the codec calls."""

    largest: Any
    codes: Any


encode = Passes(largest, codes)

"""compressed-tensors: the passes over all weights; numpy finds the scales between them.

Numbers of a block follow each other, so that short loops over plain numbers become vectors by themselves:
each does one kind of arithmetic, on floats or on their bits, in memory that stays in the nearest cache.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from convert.writer.codecs.lanes.jit import LINE, ROWS, Bytes, Floats, kernel_as

BITS = numba.types.Array(numba.uint32, 2, "C", readonly=True)
# Weights of a block that are worked on at once.
STEP = 2048
FP8, FP4, INTEGER = 0, 1, 2
ONE, SIGN = np.uint32(1), np.uint32(0x80000000)
# Of E4M3, as bits of a float32: what is added to round, the least normal number, the largest, and how far
# the exponents are apart. Then a power of two that leaves whole steps below the least normal number.
HALF_8, LEAST_8, MOST_8 = np.uint32(0x7FFFF), np.uint32(0x3C800000), np.uint32(0x43E00000)
APART_8, MAGIC_8, MAGIC_8_BITS = np.uint32(960), np.float32(16384.0), np.uint32(0x46800000)
# The same of E2M1.
HALF_4, LEAST_4, MOST_4 = np.uint32(0x1FFFFF), np.uint32(0x3F800000), np.uint32(0x40C00000)
APART_4, MAGIC_4, MAGIC_4_BITS = np.uint32(252), np.float32(4194304.0), np.uint32(0x4A800000)


@kernel_as(numba.void(BITS, numba.uint32[::1]))
def largest(blocks: NDArray[np.uint32], out: NDArray[np.uint32]) -> None:
    """Find the bits of each block's largest size: without the sign they are in the order of the sizes."""
    for block in range(blocks.shape[0]):
        most = np.uint32(0)
        for i in range(blocks.shape[1]):
            most = max(most, np.uint32(blocks[block, i] & np.uint32(0x7FFFFFFF)))
        out[block] = most


@kernel_as(
    numba.void(ROWS, LINE, numba.boolean, numba.intp, numba.float32, numba.float32, numba.uint8[:, ::1])
)
def codes(
    blocks: Floats, scales: Floats, is_narrow: bool, kind: int, low: Any, high: Any, out: Bytes
) -> None:
    """Divide by each block's scale, round to BF16 where that is the source's float, and encode."""
    count, size = blocks.shape
    quotients, shifted = np.empty(STEP, np.float32), np.empty(STEP, np.float32)
    bits, shifted_bits = quotients.view(np.uint32), shifted.view(np.uint32)
    for block in range(count):
        scale = scales[block]
        for first in range(0, size, STEP):
            n = min(STEP, size - first)
            for i in range(n):
                quotients[i] = blocks[block, first + i] / scale
            if is_narrow:
                for i in range(n):
                    odd = np.uint32((bits[i] >> np.uint32(16)) & ONE)
                    bits[i] = np.uint32(bits[i] + odd + np.uint32(0x7FFF)) & np.uint32(0xFFFF0000)
            if kind == INTEGER:
                for i in range(n):
                    out[block, first + i] = np.uint8(
                        np.int32(np.rint(min(max(quotients[i], low), high)) - low)
                    )
            elif kind == FP8:
                for i in range(n):
                    shifted[i] = abs(quotients[i]) + MAGIC_8
                for i in range(n):
                    size_bits = min(np.uint32(bits[i] & ~SIGN), MOST_8)
                    odd = np.uint32((size_bits >> np.uint32(20)) & ONE)
                    normal = np.uint32((np.uint32(size_bits + HALF_8 + odd) >> np.uint32(20)) - APART_8)
                    small = np.uint32(shifted_bits[i] - MAGIC_8_BITS)
                    code = small if size_bits < LEAST_8 else normal
                    out[block, first + i] = np.uint8(code | ((bits[i] & SIGN) >> np.uint32(24)))
            else:
                for i in range(n):
                    shifted[i] = abs(quotients[i]) + MAGIC_4
                for i in range(n):
                    size_bits = min(np.uint32(bits[i] & ~SIGN), MOST_4)
                    odd = np.uint32((size_bits >> np.uint32(22)) & ONE)
                    normal = np.uint32((np.uint32(size_bits + HALF_4 + odd) >> np.uint32(22)) - APART_4)
                    small = np.uint32(shifted_bits[i] - MAGIC_4_BITS)
                    code = small if size_bits < LEAST_4 else normal
                    sign = (bits[i] & SIGN) >> np.uint32(28) if size_bits > 0 else np.uint32(0)
                    out[block, first + i] = np.uint8(code | sign)


class Passes(NamedTuple):
    """What the codec calls."""

    largest: Any
    codes: Any


encode = Passes(largest, codes)

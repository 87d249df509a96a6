"""MatMulNBits: the two passes over all weights; numpy finds the scales between them.

Blocks are in the order of memory here, so each vector has neighbors of one block.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from convert.writer.codecs.lanes.jit import ROWS, Bytes, Floats, kernel_as, part
from convert.writer.codecs.lanes.memory import load, store_bytes, store_nibbles
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Vector,
    larger,
    least_lane,
    most_lane,
    smaller,
    to_int,
)

BLOCKS = numba.float32[::1]


@part
def whole(doubled: Vector, doubled_top: Any) -> Vector:
    """Clip and halve, half away from zero: the whole part of a number and one is what is rounded."""
    return (to_int(smaller(larger(doubled, 0.0), doubled_top)) + 1) >> 1


@part
def extremes(blocks: Floats, block: int) -> tuple[Any, Any]:
    """Find the lowest and the highest weight of a block."""
    size = blocks.shape[1]
    least = most = blocks[block, 0]
    whole_size = size // WIDTH * WIDTH
    if whole_size:
        at = block * size
        low = high = load(blocks, at)
        for i in range(WIDTH, whole_size, WIDTH):
            x = load(blocks, at + i)
            low, high = smaller(x, low), larger(x, high)
        least, most = least_lane(low), most_lane(high)
    for i in range(whole_size, size):
        least = min(least, blocks[block, i])
        most = max(most, blocks[block, i])
    return least, most


@part
def write(out: Bytes, index: int, doubled: Vector, bits: int) -> None:
    """Store whole numbers of 8 bits, or of 4 and two a byte, the first below."""
    if bits == 8:
        store_bytes(out, index, whole(doubled, np.float32(510)))
    else:
        store_nibbles(out, index, whole(doubled, np.float32(30)))


@kernel_as(numba.void(ROWS, BLOCKS, BLOCKS))
def bounds(blocks: Floats, low: Floats, high: Floats) -> None:
    """Find all lowest and highest weights; of zeros alone, both are the last, as in numpy."""
    count, size = blocks.shape
    for block in range(count):
        least, most = extremes(blocks, block)
        is_zero = least == 0 and most == 0
        low[block] = blocks[block, size - 1] if is_zero else least
        high[block] = blocks[block, size - 1] if is_zero else most


@kernel_as(numba.void(ROWS, BLOCKS, BLOCKS, numba.intp, numba.uint8[:, ::1]))
def pack(blocks: Floats, doubled_scales: Floats, doubled_zeros: Floats, bits: int, out: Bytes) -> None:
    """Round to whole numbers."""
    count, size = blocks.shape
    some, some_codes = np.zeros(WIDTH, np.float32), np.empty(WIDTH, np.uint8)
    rest = size % WIDTH
    first = size - rest
    for block in range(count):
        scale, zero = doubled_scales[block], doubled_zeros[block]
        at, to = block * size, block * out.shape[1]
        for i in range(0, first, WIDTH):
            write(out, to + i * bits // 8, load(blocks, at + i) * scale + zero, bits)
        if rest:
            some[:rest] = blocks[block, first:]
            write(some_codes, 0, load(some, 0) * scale + zero, bits)
            out[block, first * bits // 8 :] = some_codes[: rest * bits // 8]


class Passes(NamedTuple):
    """What the codec calls."""

    bounds: Any
    pack: Any


encode = Passes(bounds, pack)

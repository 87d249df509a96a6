"""MatMulNBits: blocks of whole numbers, each read once: its scale and zero point, and its packed numbers."""

from typing import Any

import numba
import numpy as np

from convert.writer.codecs.lanes.jit import NUMBERS, ROWS, Bytes, Floats, kernel_as, part
from convert.writer.codecs.lanes.memory import load, store_bytes, store_nibbles
from convert.writer.codecs.lanes.rounding import of_half, to_half
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Vector,
    floats,
    larger,
    least_lane,
    most_lane,
    smaller,
    to_int,
)

ZERO, ONE, TWO, HALF = np.float32(0), np.float32(1), np.float32(2), np.float32(0.5)


@part
def extremes(blocks: Floats, block: int) -> tuple[Any, Any]:
    """Find the lowest and the highest weight of a block; of zeros alone, both are the last, as in numpy."""
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
    if least == 0 and most == 0:
        return blocks[block, size - 1], blocks[block, size - 1]
    return least, most


@part
def symmetric(low: Any, high: Any, bits: int) -> tuple[Any, Any]:
    """Let the weight that is farthest from zero be the lowest number, whatever its sign."""
    middle = np.float32(1 << (bits - 1))
    return (high if high > -low else low) / -middle, middle


@part
def between(low: Any, high: Any, bits: int) -> tuple[Any, Any]:
    """Stretch all numbers from the lowest to the highest weight, zero always among them."""
    top = np.float32((1 << bits) - 1)
    low, high = min(low, ZERO), max(high, ZERO)
    scale = (high - low) / top
    zero = ZERO if scale == 0 else -low / scale
    return scale, np.floor((np.floor(min(zero, top) * TWO) + ONE) * HALF)


@part
def write(out: Bytes, index: int, doubled: Vector, bits: int) -> None:
    """Clip and halve, half away from zero: the whole part of a number and one is what is rounded."""
    top = np.float32(((1 << bits) - 1) * 2)
    number = (to_int(smaller(larger(doubled, ZERO), top)) + 1) >> 1
    if bits == 8:
        store_bytes(out, index, number)
    else:
        store_nibbles(out, index, number)


@kernel_as(numba.void(ROWS, numba.intp, numba.boolean, numba.boolean, NUMBERS, NUMBERS, numba.uint8[:, ::1]))
def encode(
    blocks: Floats, bits: int, is_symmetric: bool, is_half: bool, scales: Floats, zeros: Floats, out: Bytes
) -> None:
    """Round to whole numbers of 8 bits, or of 4 and two a byte, the first below."""
    count, size = blocks.shape
    some, some_codes = np.zeros(WIDTH, np.float32), np.empty(WIDTH, np.uint8)
    rest = size % WIDTH
    first = size - rest
    for block in range(count):
        low, high = extremes(blocks, block)
        scale, zero = symmetric(low, high, bits) if is_symmetric else between(low, high, bits)
        if is_half:
            scale = least_lane(of_half(to_half(floats(scale))))
        scales[block], zeros[block] = scale, zero
        doubled_scale = ZERO if scale == 0 else TWO / scale
        # Next to a scale that is all but zero, so are its weights.
        doubled_scale = ZERO if np.isinf(doubled_scale) else doubled_scale
        doubled_zero = zero * TWO
        at, to = block * size, block * out.shape[1]
        for i in range(0, first, WIDTH):
            write(out, to + i * bits // 8, load(blocks, at + i) * doubled_scale + doubled_zero, bits)
        if rest:
            some[:rest] = blocks[block, first:]
            write(some_codes, 0, load(some, 0) * doubled_scale + doubled_zero, bits)
            out[block, first * bits // 8 :] = some_codes[: rest * bits // 8]

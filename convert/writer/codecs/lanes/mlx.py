"""MLX's groups of whole numbers, each read once: its scale and bias, and its packed numbers."""

from typing import Any

import numba
import numpy as np

from convert.writer.codecs.lanes.jit import NUMBERS, ROWS, Bytes, Floats, kernel_as, part
from convert.writer.codecs.lanes.memory import load, store, store_bytes, store_nibbles
from convert.writer.codecs.lanes.rounding import narrowed
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Vector,
    bits_of,
    larger,
    least_lane,
    most_lane,
    smaller,
)

# A float32 that is larger by this much has a whole number, rounded to even, in its lowest bits.
MAGIC = np.float32(12582912)
LEAST_SCALE = np.float32(1e-7)


@part
def neighbors(groups: Floats, at: int, is_narrow: bool) -> Vector:
    """Read weights of a group, rounded to bfloat16 where scales are."""
    return narrowed(load(groups, at)) if is_narrow else load(groups, at)


@part
def scale_of(low: Any, high: Any, top: Any) -> tuple[Any, Any]:
    """Let the end that is farther from zero, and zero itself, be whole numbers of steps."""
    is_low = abs(low) > abs(high)
    edge = low if is_low else high
    scale = max((high - low) / top, LEAST_SCALE)
    scale = scale if is_low else -scale
    steps = np.rint(edge / scale)
    if steps == 0:
        return scale, np.float32(0)
    return edge / steps, edge


@part
def pack(wide: Any, bits: int, out: Bytes, at: int) -> None:
    """Put numbers side by side, eight of which fill as many bytes as they have bits."""
    mask = np.uint32((1 << bits) - 1)
    flat = out.reshape(-1)
    for first in range(0, WIDTH, 8):
        word = np.uint64(0)
        for place in range(8):
            word |= np.uint64(wide[first + place] & mask) << np.uint64(place * bits)
        for place in range(bits):
            flat[at + first // 8 * bits + place] = np.uint8(word >> np.uint64(8 * place))


@kernel_as(numba.void(ROWS, numba.boolean, numba.intp, NUMBERS, NUMBERS, numba.uint8[:, ::1]))
def encode(groups: Floats, is_narrow: bool, bits: int, scales: Floats, biases: Floats, out: Bytes) -> None:
    """Round groups of a multiple of 32 weights."""
    count, size = groups.shape
    top = np.float32((1 << bits) - 1)
    shifted = np.empty(WIDTH, np.float32)
    for group in range(count):
        at = group * size
        low = high = neighbors(groups, at, is_narrow)
        for i in range(at + WIDTH, at + size, WIDTH):
            x = neighbors(groups, i, is_narrow)
            low, high = smaller(x, low), larger(x, high)
        scale, bias = scale_of(least_lane(low), most_lane(high), top)
        scales[group], biases[group] = scale, bias
        for i in range(at, at + size, WIDTH):
            steps = (neighbors(groups, i, is_narrow) - bias) / scale
            number = smaller(larger(steps, 0.0), top) + MAGIC
            if bits == 4:
                store_nibbles(out, i // 2, bits_of(number))
            elif bits == 8:
                store_bytes(out, i, bits_of(number))
            else:
                store(shifted, 0, number)
                pack(shifted.view(np.uint32), bits, out, i * bits // 8)

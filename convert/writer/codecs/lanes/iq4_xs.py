"""IQ4_XS: 8 blocks of 32 numbers, each the nearest of sixteen values, and their scales with 6 bits."""

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.iq4 import SCRATCH, inverse_or_zero, pack, search
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel
from convert.writer.codecs.lanes.memory import (
    gather_tile,
    load,
    scatter_halves,
    scatter_tile,
    scatter_words,
    store,
)
from convert.writer.codecs.lanes.rounding import clamp, nearest, to_half
from convert.writer.codecs.lanes.vector import WIDTH, floats, ints, select, to_float
from convert.writer.codecs.lanes.weight import square_sum, weigh, weigh_by_square

_WEIGHTS = 256 * WIDTH
_SCALES = _WEIGHTS + SCRATCH
_WORDS = _SCALES + 8 * WIDTH


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 256 numbers, one super-block a lane."""
    scratch = np.empty(_WORDS + 32 * WIDTH, np.float32)
    where = places()
    starts, columns, blocks = where
    for first in range(0, source.size // 256, WIDTH):
        locate(where, first, source, out, 256)
        for tile in range(16):
            gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
        variance = floats(0.0)
        if importance.size:
            variance = square_sum(scratch, 0, 256) * (2.0 / 256)
        highest, extreme_scale = floats(0.0), floats(0.0)
        for block in range(8):
            at = block * 32 * WIDTH
            if importance.size:
                gather_tile(scratch, _WEIGHTS, importance, columns, block * 32)
                gather_tile(scratch, _WEIGHTS + 16 * WIDTH, importance, columns, block * 32 + 16)
                weigh(scratch, at, _WEIGHTS, 32, variance)
            else:
                weigh_by_square(scratch, at, _WEIGHTS, 32)
            scale = search(scratch, at, _WEIGHTS)
            store(scratch, _SCALES + block * WIDTH, scale)
            distance = abs(scale)
            is_farther = distance > highest
            highest = select(is_farther, distance, highest)
            extreme_scale = select(is_farther, scale, extreme_scale)
        step = -extreme_scale / 32.0
        inverse_step = inverse_or_zero(step)
        scatter_halves(out, blocks, 0, to_half(step))
        scales_high, scales_low = ints(0), ints(0)
        for block in range(8):
            level = clamp(nearest(inverse_step * load(scratch, _SCALES + block * WIDTH)), -32, 31)
            inverse = inverse_or_zero(step * to_float(level))
            for i in range(4):
                word = pack(scratch, block * 32 * WIDTH, inverse, i)
                store(scratch, _WORDS + (block * 4 + i) * WIDTH, word)
            level = level + 32
            scales_low = scales_low | ((level & 15) << (4 * block))
            scales_high = scales_high | ((level >> 4) << (2 * block))
        scatter_halves(out, blocks, 2, scales_high)
        scatter_words(out, blocks, 4, scales_low)
        for tile in range(2):
            scatter_tile(out, blocks, 8 + tile * 64, scratch, _WORDS + tile * 16 * WIDTH)

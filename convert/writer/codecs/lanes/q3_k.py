"""Q3_K: 16 blocks of 16 numbers with 3 bits, their scales with 6 bits."""

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel, part
from convert.writer.codecs.lanes.memory import (
    gather_tile,
    load,
    load_ints,
    scatter_halves,
    scatter_tile,
    scatter_words,
    store,
)
from convert.writer.codecs.lanes.packing import pack_two_bits
from convert.writer.codecs.lanes.rounding import clamp, nearest, of_half, to_half
from convert.writer.codecs.lanes.symmetric import SMALLEST, extreme, search
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    any_lane,
    floats,
    ints,
    select,
    to_float,
    to_int,
)
from convert.writer.codecs.lanes.weight import square_sum, total, weigh

_WEIGHTS = 256 * WIDTH
_SCALES = _WEIGHTS + 32 * WIDTH
_SUMS = _SCALES + 16 * WIDTH  # of the weights of each block; 16 more for what the search keeps
_LEVELS = _SUMS + 32 * WIDTH
_CODES = _LEVELS + 16 * WIDTH
_WORDS = _CODES + 256 * WIDTH
_END = _WORDS + 27 * WIDTH


@part
def refine(scratch: Scratch, at: int, levels_at: int) -> Vector:
    """Find the scale of 16 numbers, changing one level at a time for the better: make_q3_quants.

    The levels are stored as the codes that they give.
    """
    extreme_value, highest = extreme(scratch, at, 16)
    inverse = floats(-4.0) / extreme_value
    sum_lx, sum_l2 = floats(0.0), floats(0.0)
    for i in range(16):
        x = load(scratch, at + i * WIDTH)
        level = to_float(clamp(nearest(inverse * x), -4, 3))
        weight = x * x
        sum_lx = sum_lx + weight * x * level
        sum_l2 = sum_l2 + weight * level * level
        store(scratch, levels_at + i * WIDTH, level)
    for _ in range(5):
        was_changed = ints(0)
        for i in range(16):
            x, level = load(scratch, at + i * WIDTH), load(scratch, levels_at + i * WIDTH)
            weight = x * x
            weighted = weight * x
            rest_lx = sum_lx - weighted * level
            rest_l2 = sum_l2 - weight * level * level
            new = to_float(clamp(nearest(x * rest_l2 / rest_lx), -4, 3))
            new_lx = rest_lx + weighted * new
            new_l2 = rest_l2 + weight * new * new
            is_better = (rest_lx > 0.0) & (new != level) & (new_l2 > 0.0)
            is_better = is_better & (new_lx * new_lx * sum_l2 > sum_lx * sum_lx * new_l2)
            store(scratch, levels_at + i * WIDTH, select(is_better, new, level))
            sum_lx, sum_l2 = select(is_better, new_lx, sum_lx), select(is_better, new_l2, sum_l2)
            was_changed = select(is_better, 1, was_changed)
        if not any_lane(was_changed > 0):
            break
    is_zero = highest < SMALLEST
    for i in range(16):
        level = to_int(load(scratch, levels_at + i * WIDTH))
        store(scratch, levels_at + i * WIDTH, select(is_zero, 0, level + 4))
    return select(is_zero | ~(sum_l2 > 0.0), 0.0, sum_lx / sum_l2)


@part
def search_by_importance(scratch: Scratch, at: int, codes_at: int) -> Vector:
    """Find the scale and the codes of 16 numbers whose weights are known."""
    scale, inverse, is_zero = search(scratch, at, _WEIGHTS, 4)
    for i in range(16):
        level = clamp(nearest(inverse * load(scratch, at + i * WIDTH)), -4, 3) + 4
        store(scratch, codes_at + i * WIDTH, select(is_zero, 0, level))
    return scale


@part
def quantize_scales(scratch: Scratch) -> Vector:
    """Find the codes of the scales, and the bits of their own scale, from the largest."""
    extreme_scale, _ = extreme(scratch, _SCALES, 16)
    is_zero = extreme_scale == 0.0
    inverse = floats(-32.0) / extreme_scale
    for block in range(16):
        level = (nearest(inverse * load(scratch, _SCALES + block * WIDTH)) << 24) >> 24  # an int8_t
        store(scratch, _LEVELS + block * WIDTH, select(is_zero, 0, clamp(level, -32, 31) + 32))
    return select(is_zero, 0, to_half(floats(1.0) / inverse))


@part
def search_scales(scratch: Scratch) -> Vector:
    """Find the codes of the scales, and the bits of their own scale, where blocks have weights."""
    scale, inverse, is_zero = search(scratch, _SCALES, _SUMS, 32)
    for block in range(16):
        level = clamp(nearest(inverse * load(scratch, _SCALES + block * WIDTH)), -32, 31) + 32
        store(scratch, _LEVELS + block * WIDTH, select(is_zero, 0, level))
    return to_half(scale)


@part
def quantize(scratch: Scratch, at: int, codes_at: int, scale: Vector) -> None:
    """Find 16 codes again; where the scale rounded to zero, those of the search stay."""
    is_kept = scale == 0.0
    for i in range(16):
        level = clamp(nearest(load(scratch, at + i * WIDTH) / scale), -4, 3) + 4
        store(scratch, codes_at + i * WIDTH, select(is_kept, load_ints(scratch, codes_at + i * WIDTH), level))


@part
def pack(scratch: Scratch) -> None:
    """Collect the high bits of the codes in 8 words, the low ones in 16, those of the scales in 3."""
    for i in range(8):
        word = ints(0)
        for byte in range(4):
            for turn in range(8):
                bit = load_ints(scratch, _CODES + (turn * 32 + i * 4 + byte) * WIDTH) >> 2
                word = word | (bit << (8 * byte + turn))
        store(scratch, _WORDS + i * WIDTH, word)
    pack_two_bits(scratch, _CODES, _WORDS + 8 * WIDTH, 0)
    high = ints(0)
    for i in range(2):
        word = ints(0)
        for byte in range(4):
            first = load_ints(scratch, _LEVELS + (i * 4 + byte) * WIDTH)
            second = load_ints(scratch, _LEVELS + (8 + i * 4 + byte) * WIDTH)
            word = word | (((first & 15) | ((second & 15) << 4)) << (8 * byte))
            high = high | (((first >> 4) << (2 * i)) << (8 * byte))
            high = high | (((second >> 4) << (2 * i + 4)) << (8 * byte))
        store(scratch, _WORDS + (24 + i) * WIDTH, word)
    store(scratch, _WORDS + 26 * WIDTH, high)


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 256 numbers, one super-block a lane."""
    scratch = np.empty(_END, np.float32)
    where = places()
    starts, columns, blocks = where
    for first in range(0, source.size // 256, WIDTH):
        locate(where, first, source, out, 256)
        for tile in range(16):
            gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
        variance = floats(0.0)
        if importance.size:
            variance = square_sum(scratch, 0, 256) * 2.0 / 256.0
        for block in range(16):
            at, codes_at = block * 16 * WIDTH, _CODES + block * 16 * WIDTH
            if importance.size:
                gather_tile(scratch, _WEIGHTS, importance, columns, block * 16)
                weigh(scratch, at, _WEIGHTS, 16, variance)
                store(scratch, _SUMS + block * WIDTH, total(scratch, _WEIGHTS, 16))
                scale = search_by_importance(scratch, at, codes_at)
            else:
                scale = refine(scratch, at, codes_at)
            store(scratch, _SCALES + block * WIDTH, scale)
        half = search_scales(scratch) if importance.size else quantize_scales(scratch)
        step = of_half(half)
        for block in range(16):
            level = to_float(load_ints(scratch, _LEVELS + block * WIDTH) - 32)
            quantize(scratch, block * 16 * WIDTH, _CODES + block * 16 * WIDTH, step * level)
        pack(scratch)
        scatter_tile(out, blocks, 0, scratch, _WORDS)
        scatter_tile(out, blocks, 32, scratch, _WORDS + 8 * WIDTH)
        for i in range(3):
            scatter_words(out, blocks, 96 + 4 * i, load_ints(scratch, _WORDS + (24 + i) * WIDTH))
        scatter_halves(out, blocks, 108, half)

"""Q6_K: 16 blocks of 16 numbers with 6 bits, their scales with 8 bits."""

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
from convert.writer.codecs.lanes.packing import pack_nibbles, pack_two_bits
from convert.writer.codecs.lanes.rounding import clamp, nearest, of_half, to_half
from convert.writer.codecs.lanes.symmetric import SMALLEST, search
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    any_lane,
    floats,
    ints,
    select,
    smaller,
    to_float,
)
from convert.writer.codecs.lanes.weight import weigh_by_square

_WEIGHTS = 256 * WIDTH  # where the weights of a block are in the scratch array, after the 256 numbers
_SCALES = _WEIGHTS + 32 * WIDTH
_INVERSES = _SCALES + 16 * WIDTH
_WORDS = _INVERSES + 16 * WIDTH


@part
def quantize(scratch: Scratch, at: int, step: Vector, level: Vector, inverse: Vector) -> None:
    """Replace 16 numbers by their codes; where the scale rounded to zero, by the codes of the search."""
    scale = step * to_float(level)
    is_kept = scale == 0.0
    if any_lane(is_kept):
        for i in range(16):
            x = load(scratch, at + i * WIDTH)
            found = select(inverse == 0.0, 0, clamp(nearest(inverse * x), -32, 31) + 32)
            store(scratch, at + i * WIDTH, select(is_kept, found, clamp(nearest(x / scale), -32, 31) + 32))
    else:
        for i in range(16):
            x = load(scratch, at + i * WIDTH)
            store(scratch, at + i * WIDTH, clamp(nearest(x / scale), -32, 31) + 32)


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 256 numbers, one super-block a lane."""
    scratch = np.empty(_WORDS + 48 * WIDTH, np.float32)
    where = places()
    starts, columns, blocks = where
    for first in range(0, source.size // 256, WIDTH):
        locate(where, first, source, out, 256)
        highest, extreme_scale = floats(0.0), floats(0.0)
        for block in range(16):
            at = block * 16 * WIDTH
            gather_tile(scratch, at, source, starts, block * 16)
            if importance.size:
                gather_tile(scratch, _WEIGHTS, importance, columns, block * 16)
            else:
                weigh_by_square(scratch, at, _WEIGHTS, 16)
            scale, inverse, block_is_zero = search(scratch, at, _WEIGHTS, 32)
            store(scratch, _SCALES + block * WIDTH, scale)
            store(scratch, _INVERSES + block * WIDTH, select(block_is_zero, 0.0, inverse))
            distance = abs(scale)
            is_farther = distance > highest
            highest = select(is_farther, distance, highest)
            extreme_scale = select(is_farther, scale, extreme_scale)
        is_zero = highest < SMALLEST
        inverse_scale = floats(-128.0) / extreme_scale
        half = select(is_zero, 0, to_half(floats(1.0) / inverse_scale))
        step = of_half(half)
        for quarter in range(4):
            word = ints(0)
            for byte in range(4):
                block = quarter * 4 + byte
                level = smaller(nearest(inverse_scale * load(scratch, _SCALES + block * WIDTH)), 127)
                level = select(is_zero, 0, (level << 24) >> 24)
                word = word | ((level & 0xFF) << (8 * byte))
                quantize(scratch, block * 16 * WIDTH, step, level, load(scratch, _INVERSES + block * WIDTH))
            scatter_words(out, blocks, 192 + quarter * 4, word)
        scatter_halves(out, blocks, 208, half)
        pack_nibbles(scratch, _WORDS, 64)
        pack_two_bits(scratch, 0, _WORDS + 32 * WIDTH, 4)
        if any_lane(is_zero):
            for i in range(48):
                at = _WORDS + i * WIDTH
                store(scratch, at, select(is_zero, 0, load_ints(scratch, at)))
        for tile in range(3):
            scatter_tile(out, blocks, tile * 64, scratch, _WORDS + tile * 16 * WIDTH)

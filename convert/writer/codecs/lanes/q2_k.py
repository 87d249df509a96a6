"""Q2_K: 16 blocks of 16 numbers with 2 bits, each with a scale and a minimum of 4 bits."""

import numpy as np

from convert.writer.codecs.lanes.affine import fit_positive, search
from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel, part
from convert.writer.codecs.lanes.memory import (
    gather_tile,
    load,
    load_ints,
    scatter_halves,
    scatter_tile,
    store,
)
from convert.writer.codecs.lanes.packing import pack_two_bits
from convert.writer.codecs.lanes.rounding import level_of, nearest, of_half, to_half
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    floats,
    ints,
    larger,
    select,
    to_float,
    to_int,
)
from convert.writer.codecs.lanes.weight import square_sum, total, weigh

_WEIGHTS = 256 * WIDTH  # the weights of a block, and its levels
_SCALES = _WEIGHTS + 32 * WIDTH
_MINIMUMS = _SCALES + 16 * WIDTH
_INVERSES = _MINIMUMS + 16 * WIDTH
_OFFSETS = _INVERSES + 16 * WIDTH
_SUMS = _OFFSETS + 16 * WIDTH
_SCALE_CODES = _SUMS + 16 * WIDTH
_MINIMUM_CODES = _SCALE_CODES + 16 * WIDTH
_WORDS = _MINIMUM_CODES + 16 * WIDTH
_END = _WORDS + 20 * WIDTH


@part
def quantize_steps(scratch: Scratch, at: int, codes_at: int) -> Vector:
    """Find the codes of scales or minimums from the largest, and the bits of their own scale."""
    most = floats(0.0)
    for block in range(16):
        most = larger(load(scratch, at + block * WIDTH), most)
    inverse = floats(15.0) / most
    for block in range(16):
        number = nearest(inverse * load(scratch, at + block * WIDTH))
        store(scratch, codes_at + block * WIDTH, select(most > 0.0, number, 0))
    return select(most > 0.0, to_half(most / 15.0), 0)


@part
def quantize(scratch: Scratch, block: int, scale: Vector, least: Vector) -> None:
    """Replace a block by its codes; where the scale rounded to zero, by those of the search."""
    at = block * 16 * WIDTH
    inverse, offset = load(scratch, _INVERSES + block * WIDTH), load(scratch, _OFFSETS + block * WIDTH)
    for i in range(16):
        x = load(scratch, at + i * WIDTH)
        found = select(inverse == 0.0, 0.0, level_of(inverse * (x - offset), 0, 3))
        store(
            scratch, at + i * WIDTH, to_int(select(scale == 0.0, found, level_of((x + least) / scale, 0, 3)))
        )


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 256 numbers, one super-block a lane."""
    scratch = np.empty(_END, np.float32)
    where = places()
    starts, columns, blocks = where
    first, step, steps, is_absolute = -0.5, 0.1, 15, True
    if importance.size:
        first, step, steps, is_absolute = -0.9, 0.05, 36, False
    for group in range(0, source.size // 256, WIDTH):
        locate(where, group, source, out, 256)
        for tile in range(16):
            gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
        variance = floats(0.0)
        if importance.size:
            variance = square_sum(scratch, 0, 256) / 256.0
        for block in range(16):
            at = block * 16 * WIDTH
            if importance.size:
                gather_tile(scratch, _WEIGHTS, importance, columns, block * 16)
                weigh(scratch, at, _WEIGHTS, 16, variance)
                store(scratch, _SUMS + block * WIDTH, total(scratch, _WEIGHTS, 16))
            else:
                for i in range(16):
                    store(scratch, _WEIGHTS + i * WIDTH, abs(load(scratch, at + i * WIDTH)))
            scale, least, inverse, offset, is_flat = search(
                scratch, at, _WEIGHTS, 16, 3, first, step, steps, is_absolute
            )
            store(scratch, _SCALES + block * WIDTH, scale)
            store(scratch, _MINIMUMS + block * WIDTH, least)
            store(scratch, _INVERSES + block * WIDTH, select(is_flat, 0.0, inverse))
            store(scratch, _OFFSETS + block * WIDTH, offset)
        if importance.size:
            scale_half = to_half(fit_positive(scratch, _SCALES, _SUMS, 16, 15, _SCALE_CODES))
            least_half = to_half(fit_positive(scratch, _MINIMUMS, _SUMS, 16, 15, _MINIMUM_CODES))
        else:
            scale_half = quantize_steps(scratch, _SCALES, _SCALE_CODES)
            least_half = quantize_steps(scratch, _MINIMUMS, _MINIMUM_CODES)
        scale_step, least_step = of_half(scale_half), of_half(least_half)
        for quarter in range(4):
            word = ints(0)
            for byte in range(4):
                block = quarter * 4 + byte
                scale_code = load_ints(scratch, _SCALE_CODES + block * WIDTH)
                both = (scale_code | (load_ints(scratch, _MINIMUM_CODES + block * WIDTH) << 4)) & 0xFF
                word = word | (both << (8 * byte))
                quantize(scratch, block, scale_step * to_float(both & 15), least_step * to_float(both >> 4))
            store(scratch, _WORDS + quarter * WIDTH, word)
        pack_two_bits(scratch, 0, _WORDS + 4 * WIDTH, 0)
        scatter_tile(out, blocks, 0, scratch, _WORDS)
        scatter_tile(out, blocks, 16, scratch, _WORDS + 4 * WIDTH)
        scatter_halves(out, blocks, 80, scale_half)
        scatter_halves(out, blocks, 82, least_half)

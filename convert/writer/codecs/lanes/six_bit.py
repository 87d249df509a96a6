"""What Q4_K and Q5_K share: 8 blocks of 32 numbers, each with a scale and a minimum of 6 bits."""

from convert.writer.codecs.lanes.affine import fit_positive, search
from convert.writer.codecs.lanes.group import Places
from convert.writer.codecs.lanes.jit import Bytes, Floats, part
from convert.writer.codecs.lanes.memory import (
    gather_tile,
    load,
    load_ints,
    scatter_halves,
    scatter_words,
    store,
)
from convert.writer.codecs.lanes.rounding import level_of, nearest, of_half, to_half
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    any_lane,
    floats,
    ints,
    larger,
    select,
    smaller,
    square_root,
    to_float,
    to_int,
)
from convert.writer.codecs.lanes.weight import square_sum, total, weigh

_WEIGHTS = 256 * WIDTH  # the weights of a block, and its levels
_SCALES = _WEIGHTS + 64 * WIDTH
_MINIMUMS = _SCALES + 8 * WIDTH
_INVERSES = _MINIMUMS + 8 * WIDTH
_OFFSETS = _INVERSES + 8 * WIDTH
_SUMS = _OFFSETS + 8 * WIDTH
_SCALE_CODES = _SUMS + 8 * WIDTH
_MINIMUM_CODES = _SCALE_CODES + 8 * WIDTH
WORDS = _MINIMUM_CODES + 8 * WIDTH


@part
def _quantize_steps(scratch: Scratch, at: int, codes_at: int) -> Vector:
    """Find the codes of scales or minimums from the largest, and the bits of their own scale."""
    most = floats(0.0)
    for block in range(8):
        most = larger(load(scratch, at + block * WIDTH), most)
    inverse = select(most > 0.0, floats(63.0) / most, 0.0)
    for block in range(8):
        number = nearest(inverse * load(scratch, at + block * WIDTH)) & 0xFF  # an uint8_t
        store(scratch, codes_at + block * WIDTH, smaller(number, 63))
    return to_half(most / 63.0)


@part
def _weigh_by_size(scratch: Scratch, at: int) -> None:
    """Weigh a block's numbers by how far they are from zero, where there is no importance matrix."""
    typical = square_root(square_sum(scratch, at, 32) / 32.0)
    for i in range(32):
        store(scratch, _WEIGHTS + i * WIDTH, typical + abs(load(scratch, at + i * WIDTH)))


@part
def _quantize(scratch: Scratch, block: int, top: int, scale: Vector, least: Vector) -> None:
    """Replace a block by its codes; where the scale rounded to zero, by those of the search."""
    at = block * 32 * WIDTH
    is_kept = scale == 0.0
    if any_lane(is_kept):
        inverse, offset = load(scratch, _INVERSES + block * WIDTH), load(scratch, _OFFSETS + block * WIDTH)
        for i in range(32):
            x = load(scratch, at + i * WIDTH)
            found = select(inverse == 0.0, 0.0, level_of(inverse * (x - offset), 0, top))
            level = select(is_kept, found, level_of((x + least) / scale, 0, top))
            store(scratch, at + i * WIDTH, to_int(level))
    else:
        for i in range(32):
            x = load(scratch, at + i * WIDTH)
            store(scratch, at + i * WIDTH, to_int(level_of((x + least) / scale, 0, top)))


@part
def quantize(
    source: Floats,
    importance: Floats,
    out: Bytes,
    scratch: Scratch,
    where: tuple[Places, Places, Places],
    top: int,
    first: float,
    step: float,
    steps: int,
) -> None:
    """Write the scales of a group of super-blocks, and leave the codes in the scratch array."""
    starts, columns, blocks = where
    for tile in range(16):
        gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
    variance = floats(0.0)
    if importance.size:
        variance = square_sum(scratch, 0, 256) * 2.0 / 256.0
        first, step, steps = -0.9, 0.05, 36
    for block in range(8):
        at = block * 32 * WIDTH
        if importance.size:
            gather_tile(scratch, _WEIGHTS, importance, columns, block * 32)
            gather_tile(scratch, _WEIGHTS + 16 * WIDTH, importance, columns, block * 32 + 16)
            weigh(scratch, at, _WEIGHTS, 32, variance)
            store(scratch, _SUMS + block * WIDTH, total(scratch, _WEIGHTS, 32))
        else:
            _weigh_by_size(scratch, at)
        scale, least, inverse, offset, is_flat = search(
            scratch, at, _WEIGHTS, 32, top, first, step, steps, False
        )
        store(scratch, _SCALES + block * WIDTH, scale)
        store(scratch, _MINIMUMS + block * WIDTH, least)
        store(scratch, _INVERSES + block * WIDTH, select(is_flat, 0.0, inverse))
        store(scratch, _OFFSETS + block * WIDTH, offset)
    if importance.size:
        scale_half = to_half(fit_positive(scratch, _SCALES, _SUMS, 8, 63, _SCALE_CODES))
        least_half = to_half(fit_positive(scratch, _MINIMUMS, _SUMS, 8, 63, _MINIMUM_CODES))
        if top == 31:
            for block in range(16):
                at = _SCALE_CODES + block * WIDTH
                store(scratch, at, smaller(load_ints(scratch, at), 63))
    else:
        scale_half = _quantize_steps(scratch, _SCALES, _SCALE_CODES)
        least_half = _quantize_steps(scratch, _MINIMUMS, _MINIMUM_CODES)
    low, middle, high = ints(0), ints(0), ints(0)
    for byte in range(4):
        at = _SCALE_CODES + byte * WIDTH
        scale_1, scale_2 = load_ints(scratch, at), load_ints(scratch, at + 4 * WIDTH)
        least_1, least_2 = load_ints(scratch, at + 8 * WIDTH), load_ints(scratch, at + 12 * WIDTH)
        scale_byte = (scale_1 | ((scale_2 >> 4) << 6)) & 0xFF
        least_byte = (least_1 | ((least_2 >> 4) << 6)) & 0xFF
        low = low | (scale_byte << (8 * byte))
        middle = middle | (least_byte << (8 * byte))
        high = high | (((scale_2 & 15) | ((least_2 & 15) << 4)) << (8 * byte))
        # As they will be read: a byte that wrapped loses its high bits.
        store(scratch, at, scale_byte & 63)
        store(scratch, at + 4 * WIDTH, (scale_2 & 15) | ((scale_byte >> 6) << 4))
        store(scratch, at + 8 * WIDTH, least_byte & 63)
        store(scratch, at + 12 * WIDTH, (least_2 & 15) | ((least_byte >> 6) << 4))
    scatter_halves(out, blocks, 0, scale_half)
    scatter_halves(out, blocks, 2, least_half)
    scatter_words(out, blocks, 4, low)
    scatter_words(out, blocks, 8, middle)
    scatter_words(out, blocks, 12, high)
    scale_step, least_step = of_half(scale_half), of_half(least_half)
    for block in range(8):
        scale = scale_step * to_float(load_ints(scratch, _SCALE_CODES + block * WIDTH))
        least = least_step * to_float(load_ints(scratch, _MINIMUM_CODES + block * WIDTH))
        _quantize(scratch, block, top, scale, least)

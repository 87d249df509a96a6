"""IQ4_NL: blocks of 32 numbers, each the nearest of sixteen values, and a scale."""

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.iq4 import SCRATCH, inverse_or_zero, pack, search
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel
from convert.writer.codecs.lanes.memory import gather_tile, scatter_halves, scatter_words
from convert.writer.codecs.lanes.rounding import to_half
from convert.writer.codecs.lanes.vector import WIDTH
from convert.writer.codecs.lanes.weight import square_sum, weigh, weigh_by_square

_WEIGHTS = 32 * WIDTH


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 32 numbers, one block a lane."""
    scratch = np.empty(_WEIGHTS + SCRATCH, np.float32)
    where = places()
    starts, columns, blocks = where
    for first in range(0, source.size // 32, WIDTH):
        locate(where, first, source, out, 32)
        for tile in range(2):
            gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
        if importance.size:
            for tile in range(2):
                gather_tile(scratch, _WEIGHTS + tile * 16 * WIDTH, importance, columns, tile * 16)
            weigh(scratch, 0, _WEIGHTS, 32, square_sum(scratch, 0, 32) * (2.0 / 32))
        else:
            weigh_by_square(scratch, 0, _WEIGHTS, 32)
        scale = search(scratch, 0, _WEIGHTS)
        scatter_halves(out, blocks, 0, to_half(scale))
        inverse = inverse_or_zero(scale)
        for i in range(4):
            scatter_words(out, blocks, 2 + 4 * i, pack(scratch, 0, inverse, i))

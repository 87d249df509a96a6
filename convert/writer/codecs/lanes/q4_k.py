"""Q4_K: 8 blocks of 32 numbers with 4 bits, each with a scale and a minimum."""

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel
from convert.writer.codecs.lanes.memory import scatter_tile
from convert.writer.codecs.lanes.packing import pack_nibbles
from convert.writer.codecs.lanes.six_bit import WORDS, quantize
from convert.writer.codecs.lanes.vector import WIDTH


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 256 numbers, one super-block a lane."""
    scratch = np.empty(WORDS + 32 * WIDTH, np.float32)
    where = places()
    for first in range(0, source.size // 256, WIDTH):
        locate(where, first, source, out, 256)
        quantize(source, importance, out, scratch, where, 15, -1.0, 0.1, 20)
        pack_nibbles(scratch, WORDS, 32)
        for tile in range(2):
            scatter_tile(out, where[2], 16 + tile * 64, scratch, WORDS + tile * 16 * WIDTH)

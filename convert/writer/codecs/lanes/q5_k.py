"""Q5_K: 8 blocks of 32 numbers with 5 bits, each with a scale and a minimum."""

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel
from convert.writer.codecs.lanes.memory import load_ints, scatter_tile, scatter_words, store
from convert.writer.codecs.lanes.packing import pack_nibbles
from convert.writer.codecs.lanes.six_bit import WORDS, quantize
from convert.writer.codecs.lanes.vector import WIDTH, ints


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Quantize rows of a multiple of 256 numbers, one super-block a lane."""
    scratch = np.empty(WORDS + 40 * WIDTH, np.float32)
    where = places()
    for first in range(0, source.size // 256, WIDTH):
        locate(where, first, source, out, 256)
        quantize(source, importance, out, scratch, where, 31, -0.5, 0.1, 15)
        for i in range(8):
            word = ints(0)
            for byte in range(4):
                for block in range(8):
                    high = load_ints(scratch, (block * 32 + i * 4 + byte) * WIDTH) >> 4
                    word = word | (high << (8 * byte + block))
            store(scratch, WORDS + i * WIDTH, word)
        pack_nibbles(scratch, WORDS + 8 * WIDTH, 32)
        for tile in range(2):
            scatter_tile(out, where[2], 16 + tile * 64, scratch, WORDS + tile * 16 * WIDTH)
        for i in range(32, 40):
            scatter_words(out, where[2], 16 + i * 4, load_ints(scratch, WORDS + i * WIDTH))

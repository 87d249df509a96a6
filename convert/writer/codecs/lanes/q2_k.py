"""Q2_K: sixteen blocks of 16 weights, a scale and a minimum of four bits in a byte."""

import numpy as np

from convert.writer.codecs.lanes.jit import LANES, Bytes, Floats, kernel, part
from convert.writer.codecs.lanes.scaled import (
    ALL,
    BYTES,
    END,
    MIN_CODES,
    SCALE_CODES,
    SUPER,
    WORDS,
    divide,
    encode_all,
    find,
    pack_bytes,
    pack_d,
    share_all,
    store,
)

SIZE, BLOCKS = 16, 16
HEAD, CODES = 4, 16  # words: scales and minimums, codes, and then the scales of the super-block


@part
def pack(s: Floats) -> None:
    """Pack scales and minimums, and read them back as llama.cpp does; then the codes, four a byte."""
    low = np.int32(15)
    for block in range(BLOCKS):
        for lane in range(LANES):
            at = block * LANES + lane
            scale, least = np.int32(s[SCALE_CODES + at]), np.int32(s[MIN_CODES + at])
            both = np.int32(np.int32(scale | np.int32(least << np.int32(4))) & np.int32(0xFF))
            s[BYTES + at] = np.float32(both)
            s[SCALE_CODES + at] = np.float32(np.int32(both & low))
            s[MIN_CODES + at] = np.float32(np.int32(both >> np.int32(4)))
    pack_bytes(s, BLOCKS, 0)
    pack_d(s, HEAD + CODES)
    encode_all(s, SIZE, np.int32(3))
    for half in range(2):
        for quad in range(8):
            for lane in range(LANES):
                packed = np.int32(0)
                for p in range(4):
                    for turn in range(4):
                        code = np.int32(s[ALL + (half * 128 + turn * 32 + quad * 4 + p) * LANES + lane])
                        packed |= np.int32(code << np.int32(8 * p + 2 * turn))
                s[WORDS + (HEAD + half * 8 + quad) * LANES + lane] = np.int32(packed).view(np.float32)


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Encode rows of super-blocks."""
    s = np.empty(END, np.float32)
    for first in range(0, source.size // SUPER, LANES):
        find(s, source, importance, first, SIZE, np.int32(3), np.float32(-0.5), np.float32(0.1), 15, True)
        if importance.size:
            share_all(s, BLOCKS, np.int32(15), np.float32(255))
        else:
            divide(s, BLOCKS, np.float32(15), np.int32(255))
        pack(s)
        store(s, out, first, HEAD + CODES + 1)

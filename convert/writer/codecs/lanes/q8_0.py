"""Q8_0: blocks of 32 numbers with 8 bits, and a scale; importance does not count."""

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel, part
from convert.writer.codecs.lanes.memory import gather_tile, load, scatter_halves, scatter_words
from convert.writer.codecs.lanes.rounding import to_half
from convert.writer.codecs.lanes.vector import WIDTH, Vector, floats, ints, larger, select, to_float, to_int


@part
def rounded(value: Vector) -> Vector:
    """Round to a byte as C's roundf does, ties away from zero; zero is what is left of infinity there."""
    number = select(abs(value) < 1000.0, value, 0.0)
    whole = to_int(number)
    rest = number - to_float(whole)
    whole = select(rest >= 0.5, whole + 1, whole)
    return select(rest <= -0.5, whole - 1, whole) & 0xFF


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:  # noqa: ARG001 - as all kernels
    """Quantize rows of a multiple of 32 numbers, one block a lane."""
    scratch = np.empty(32 * WIDTH, np.float32)
    where = places()
    starts, _, blocks = where
    for first in range(0, source.size // 32, WIDTH):
        locate(where, first, source, out, 32)
        most = floats(0.0)
        for tile in range(2):
            gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
        for i in range(32):
            most = larger(most, abs(load(scratch, i * WIDTH)))
        scale = most / 127.0
        inverse = select(scale != 0.0, floats(1.0) / scale, 0.0)
        scatter_halves(out, blocks, 0, to_half(scale))
        for i in range(8):
            word = ints(0)
            for byte in range(4):
                word = word | (rounded(load(scratch, (i * 4 + byte) * WIDTH) * inverse) << (8 * byte))
            scatter_words(out, blocks, 2 + 4 * i, word)

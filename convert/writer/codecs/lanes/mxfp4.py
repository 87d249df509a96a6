"""MXFP4: blocks of 32 numbers, each the nearest of fifteen values, and a power of two."""

import math

import numpy as np

from convert.writer.codecs.lanes.group import locate, places
from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel, part
from convert.writer.codecs.lanes.memory import (
    gather_tile,
    load,
    load_ints,
    scatter_bytes,
    scatter_words,
    store,
)
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    float_of_bits,
    floats,
    ints,
    larger,
    select,
)

_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12], np.float32)  # kvalues_mxfp4; the other eight are negative
_MOST, _EXPONENTS, _END = 32 * WIDTH, 33 * WIDTH, 34 * WIDTH


@part
def exponents(scratch: Scratch) -> None:
    """Find the exponents, by the logarithm of the C library as ggml does: it may round up to the next one."""
    numbers = scratch[_EXPONENTS:_END].view(np.int32)
    for lane in range(WIDTH):
        most = scratch[_MOST + lane]
        numbers[lane] = (math.floor(math.log2(most)) + 125) & 0xFF if most > 0 else 0


@part
def nearest_code(number: Vector, scale: Vector) -> Vector:
    """Find the first of the nearest values: best_index_mxfp4, which tries those below zero last."""
    size = abs(number)
    code = ints(0)
    best = size
    for i in range(1, 8):
        error = abs(floats(_VALUES[i]) * scale - size)
        is_nearer = error < best
        code = select(is_nearer, i, code)
        best = select(is_nearer, error, best)
    return select((number < 0.0) & (code > 0), code + 8, code)


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:  # noqa: ARG001 - as all kernels
    """Quantize rows of a multiple of 32 numbers, one block a lane."""
    scratch = np.empty(_END, np.float32)
    where = places()
    starts, _, blocks = where
    for first in range(0, source.size // 32, WIDTH):
        locate(where, first, source, out, 32)
        most = floats(0.0)
        for tile in range(2):
            gather_tile(scratch, tile * 16 * WIDTH, source, starts, tile * 16)
        for i in range(32):
            most = larger(abs(load(scratch, i * WIDTH)), most)
        store(scratch, _MOST, most)
        exponents(scratch)
        exponent = load_ints(scratch, _EXPONENTS)
        scatter_bytes(out, blocks, 0, exponent)
        # ggml_e8m0_to_fp32_half
        scale = float_of_bits(select(exponent < 2, ints(0x00200000) << exponent, (exponent - 1) << 23))
        for i in range(4):
            word = ints(0)
            for byte in range(4):
                at = (i * 4 + byte) * WIDTH
                low = nearest_code(load(scratch, at), scale)
                high = nearest_code(load(scratch, at + 16 * WIDTH), scale)
                word = word | ((low | (high << 4)) << (8 * byte))
            scatter_words(out, blocks, 1 + 4 * i, word)

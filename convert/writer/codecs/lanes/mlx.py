"""MLX's groups of whole numbers: the two passes over all weights; numpy finds the scales between them.

Loops over plain numbers of a group, which become vectors by themselves.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from convert.writer.codecs.lanes.jit import LINE, ROWS, Bytes, Floats, kernel_as
from convert.writer.codecs.lanes.matmulnbits import bounds

# A float32 that is larger by this much has a whole number, rounded to even, in its lowest bits.
MAGIC = np.float32(12582912)


@kernel_as(numba.void(ROWS, LINE, LINE, numba.intp, numba.uint8[:, ::1]))
def codes(groups: Floats, scales: Floats, biases: Floats, bits: int, out: Bytes) -> None:
    """Round to whole numbers, and put these side by side, from the lowest bit on."""
    count, size = groups.shape
    top, mask = np.float32((1 << bits) - 1), np.uint32((1 << bits) - 1)
    shifted = np.empty(size, np.float32)
    wide = shifted.view(np.uint32)
    for group in range(count):
        scale, bias = scales[group], biases[group]
        for i in range(size):
            steps = (groups[group, i] - bias) / scale
            shifted[i] = min(max(steps, np.float32(0)), top) + MAGIC
        if bits == 8:
            for i in range(size):
                out[group, i] = np.uint8(wide[i])
        elif bits == 4:
            for i in range(size // 2):
                out[group, i] = np.uint8((wide[2 * i] & mask) | ((wide[2 * i + 1] & mask) << np.uint32(4)))
        else:  # eight numbers fill as many bytes as they have bits
            for i in range(size // 8):
                word = np.uint64(0)
                for place in range(8):
                    word |= np.uint64(wide[8 * i + place] & mask) << np.uint64(place * bits)
                for place in range(bits):
                    out[group, i * bits + place] = np.uint8(word >> np.uint64(8 * place))


class Passes(NamedTuple):
    """What the codec calls."""

    bounds: Any
    codes: Any


encode = Passes(bounds, codes)

"""MatMulNBits: the two passes over all weights; numpy finds the scales between them.

Blocks are in the order of memory here, so that loops over plain numbers become vectors by themselves.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from convert.writer.codecs.lanes.jit import OPTIONS, ROWS, Bytes, Floats, kernel_as, part

BLOCKS = numba.float32[::1]


@part
def whole(doubled: Any, doubled_top: Any) -> Any:
    """Halve a number that is clipped, half away from zero: its whole part is what is rounded."""
    doubled = np.float32(0) if doubled < 0 else doubled
    doubled = doubled_top if doubled > doubled_top else doubled
    return (np.int32(doubled) + np.int32(1)) >> 1


# A lowest number is the same in any order, but for the sign of zero, which is not taken from here.
@numba.njit(**OPTIONS | {"fastmath": {"nnan", "nsz"}})  # type: ignore[untyped-decorator]  # numba has no types
def extremes(blocks: Floats, block: int) -> tuple[Any, Any]:
    """Find the lowest and the highest weight of a block."""
    least = most = blocks[block, 0]
    for i in range(blocks.shape[1]):
        least = min(least, blocks[block, i])
        most = max(most, blocks[block, i])
    return least, most


@kernel_as(numba.void(ROWS, BLOCKS, BLOCKS))
def bounds(blocks: Floats, low: Floats, high: Floats) -> None:
    """Find all lowest and highest weights; of zeros alone, both are the last, as in numpy."""
    count, size = blocks.shape
    for block in range(count):
        least, most = extremes(blocks, block)
        is_zero = least == 0 and most == 0
        low[block] = blocks[block, size - 1] if is_zero else least
        high[block] = blocks[block, size - 1] if is_zero else most


@kernel_as(numba.void(ROWS, BLOCKS, BLOCKS, numba.intp, numba.uint8[:, ::1]))
def pack(blocks: Floats, doubled_scales: Floats, doubled_zeros: Floats, bits: int, out: Bytes) -> None:
    """Round to whole numbers of 8 bits, or of 4 and two a byte, the first below."""
    count, size = blocks.shape
    for block in range(count):
        scale, zero = doubled_scales[block], doubled_zeros[block]
        if bits == 8:
            for i in range(size):
                out[block, i] = whole(blocks[block, i] * scale + zero, np.float32(510))
        else:
            for i in range(size // 2):
                first = whole(blocks[block, 2 * i] * scale + zero, np.float32(30))
                second = whole(blocks[block, 2 * i + 1] * scale + zero, np.float32(30))
                out[block, i] = first | (second << 4)


class Passes(NamedTuple):
    """What the codec calls."""

    bounds: Any
    pack: Any


encode = Passes(bounds, pack)

"""A group of blocks, one a lane: where each of them is."""

import numpy as np
from numpy.typing import NDArray

from convert.writer.codecs.lanes.jit import Bytes, Floats, part
from convert.writer.codecs.lanes.vector import WIDTH

Places = NDArray[np.int64]


@part
def places() -> tuple[Places, Places, Places]:
    """Make room for where blocks start in the source, in the importance of columns and in the output."""
    return np.empty(WIDTH, np.int64), np.empty(WIDTH, np.int64), np.empty(WIDTH, np.int64)


@part
def locate(
    where: tuple[Places, Places, Places], first: int, source: Floats, out: Bytes, block_size: int
) -> None:
    """Find the blocks of a group; lanes that are left over repeat the last block."""
    starts, columns, blocks = where
    a_row = source.shape[1] // block_size
    block_bytes = out.shape[1] // a_row
    for lane in range(WIDTH):
        number = min(first + lane, source.size // block_size - 1)
        starts[lane] = number * block_size
        columns[lane] = number % a_row * block_size
        blocks[lane] = number * block_bytes

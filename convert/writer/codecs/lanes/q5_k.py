"""Q5_K."""

import numpy as np

from convert.writer.codecs.lanes.jit import Bytes, Floats, kernel
from convert.writer.codecs.lanes.six_bit import fill


@kernel
def encode(source: Floats, importance: Floats, out: Bytes) -> None:
    """Encode rows of super-blocks."""
    fill(source, importance, out, np.int32(31), np.float32(-0.5), np.float32(0.1), 15)

"""Windows of text in the batches in which they pass through a layer."""

from collections.abc import Iterator
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from convert.calibration import Windows

# Tokens that pass through a layer together; a longer window passes alone.
BATCH_TOKENS = 2048


def batches(windows: Windows) -> Iterator[NDArray[np.int32]]:
    """Stack windows of one length, (texts, positions)."""
    for length, group in groupby(windows.tokens, key=len):
        alike = list(group)
        step = max(1, BATCH_TOKENS // length)
        for first in range(0, len(alike), step):
            yield np.stack(alike[first : first + step])

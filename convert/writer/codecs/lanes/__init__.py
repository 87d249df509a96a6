"""Vectorized kernels of ggml's block types, each in a file of its name; their bytes are libggml's.

A kernel file defines `encode(source, importance, out)` and imports numba, so it is only imported where
there is enough work: see `prepare`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    # Rows of float32, the importance of each column (or nothing), and the rows of bytes to fill.
    Encode = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], None]

# The kernels that are compiled, by block type; this fills while libggml encodes the first rows.
ready: dict[str, Encode] = {}


def has_kernel(block_type: str) -> bool:
    """Tell whether there is a kernel for a block type."""
    return Path(__file__).with_name(f"{block_type.lower()}.py").is_file()

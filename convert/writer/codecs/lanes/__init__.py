"""Vectorized kernels, each in a file of its name; their bytes are those that the codec gives without.

A kernel file defines `encode` and imports numba, so it is only imported where there is enough work: see
`prepare`. For ggml's block types that is `encode(source, importance, out)`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

    from convert.writer.codecs import Codec

    # Rows of float32, the importance of each column (or nothing), and the rows of bytes to fill.
    Encode = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], None]

# Of what has no kernel; any machine reaches it.
ENCODED_PER_S = 200e6
# What the codecs call, by the name of the kernel; this fills while the first rows are encoded without.
ready: dict[str, Any] = {}


def has_kernel(name: str) -> bool:
    """Tell whether there is a kernel of a name."""
    return Path(__file__).with_name(f"{name.lower()}.py").is_file()


def kernel_of(codec: Codec) -> str:
    """Name the kernel that a codec calls where it is ready; nothing if there is none."""
    name: str = getattr(codec, "kernel", "")
    return name if name and has_kernel(name) else ""


def weights_per_s(codec: Codec) -> float:
    """Say how many weights a second one core encodes, roughly, without a kernel."""
    per_s: float = getattr(codec, "weights_per_s", ENCODED_PER_S)
    return per_s

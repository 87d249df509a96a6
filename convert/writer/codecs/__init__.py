"""Numbers in, bytes out: how rows of float32 become what a file stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Codec(Protocol):
    """Encodes rows, each on its own, so that any split of a tensor into rows gives the same bytes.

    A codec may fill several planes (packed weights and their scales, say); most fill one. Where several rows
    share a number, `plane_rows` says how many, and they are never split.
    Codecs are values: equal ones give equal bytes, and the engine encodes once for both.
    """

    @property
    def name(self) -> str:
        """Name the encoding, for the manifest and for people."""

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        """Say how long a row of so many weights is, in each plane."""

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        """Encode (n, columns) into one (n, row_bytes) array a plane."""


def plane_rows(codec: Codec, planes: int) -> tuple[int, ...]:
    """Say how many rows of a matrix share one of each plane's: one, unless a codec's blocks are higher."""
    found: tuple[int, ...] = getattr(codec, "plane_rows", (1,) * planes)
    return found

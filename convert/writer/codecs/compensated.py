"""Another codec's numbers, chosen so that what one column loses others make up for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from convert.rounding import round_rows, rows_together
from convert.writer.codecs import Codec, lanes, plane_rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convert.rounding import Factor, Grid, Rounded

SLICE_WEIGHTS, GPU_SLICE_WEIGHTS = 1 << 21, 1 << 22
KERNEL = "Searched"


class Packing(Codec, Protocol):
    """A codec that also stores numbers which were chosen elsewhere."""

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored."""

    def pack(self, rounded: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store codes with their scales, one (n, row_bytes) array a plane."""


@dataclass(frozen=True, slots=True)
class Searched:
    """Rounds to the nearest number, by the scales that lose least: no text is needed for it."""

    packing: Packing
    kernel: ClassVar[str] = KERNEL
    weights_per_s: ClassVar[float] = 5e6  # that one Zen 4 core rounds without a kernel

    @property
    def name(self) -> str:
        return f"{self.packing.name}_search"

    @property
    def plane_rows(self) -> tuple[int, ...]:
        """Say how many rows share one of each plane's."""
        return plane_rows(self.packing, len(self.packing.row_bytes(0)))

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        return self.packing.row_bytes(columns)

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        return self.packing.pack(self.round(rows))

    def round(self, rows: NDArray[np.float32]) -> Rounded:
        """Choose the numbers that are packed."""
        return round_rows(rows, self.packing.grid, passes=lanes.ready.get(KERNEL))


@dataclass(frozen=True, slots=True)
class Compensated(Searched):
    """Rounds by what was learned of one matrix's inputs: GPTQ, whatever the format.

    Without a factor scales are searched, and weights rounded to the nearest number.
    """

    factor: Factor | None = None
    weights_per_s: ClassVar[float] = 5e6  # that one Zen 4 core rounds in rows of 2,048

    @property
    def name(self) -> str:
        return f"{self.packing.name}_gptq"

    @property
    def slice_weights(self) -> int:
        """Say how many weights are rounded together: each step takes as long for few rows as for many."""
        is_far = self.factor is not None and self.factor.device == "cuda"
        return GPU_SLICE_WEIGHTS if is_far else SLICE_WEIGHTS

    @staticmethod
    def rows_together(columns: int) -> int:
        """Say how many rows take as long as one."""
        return rows_together(columns)

    def round(self, rows: NDArray[np.float32]) -> Rounded:
        """Choose the numbers that are packed, so that products change least."""
        return round_rows(rows, self.packing.grid, self.factor, passes=lanes.ready.get(KERNEL))

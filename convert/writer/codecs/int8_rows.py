"""CTranslate2's matrices of 8 bits: each row by the number that brings its largest weight to 127."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

TOP = np.float32(127)
# Of a row of nothing, and the least that keeps 127 divided by it a float32.
OF_ZEROS, LEAST = TOP, TOP / np.finfo(np.float32).max
# Weights that are worked on at once: their float32 and what becomes of them stay in a core's cache.
STEP_WEIGHTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Int8Rows:
    """One byte a weight, and a row's multiplier in float32; the planes are in this order."""

    weights_per_s: ClassVar[float] = 300e6  # that one Zen 4 core rounds

    @property
    def name(self) -> str:
        return "int8_row"

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        return columns, 4

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        codes, scales = np.empty(rows.shape, np.int8), np.empty((len(rows), 1), np.float32)
        step = max(1, STEP_WEIGHTS // rows.shape[1])
        for first in range(0, len(rows), step):
            here = slice(first, first + step)
            most = np.abs(rows[here]).max(axis=1, keepdims=True)
            most[most == 0] = OF_ZEROS
            scales[here] = TOP / np.maximum(most, LEAST)
            values = rows[here] * scales[here]
            codes[here] = np.rint(values, out=values)
        return codes.view(np.uint8), scales.view(np.uint8)

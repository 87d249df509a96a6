"""Floats of 32 and 16 bits, by numpy alone."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from convert.errors import Failure

WIDTH_BYTES = {"F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class Plain:
    """One float a weight."""

    name: Literal["F32", "F16", "BF16"]

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        return (columns * WIDTH_BYTES[self.name],)

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        if self.name == "F32":
            return (np.ascontiguousarray(rows).view(np.uint8),)
        if self.name == "F16":
            with np.errstate(over="ignore"):
                halves = rows.astype(np.float16, order="C")
            if np.isinf(halves).any():
                raise Failure(
                    "a weight is larger than F16 can hold, 65504", "take BF16, or F32, for this model"
                )
            return (halves.view(np.uint8),)
        return (to_bf16(rows).view(np.uint8),)


def to_bf16(rows: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to the nearest bfloat16, ties to even, as ggml_compute_fp32_to_bf16 does for finite numbers."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    odd = bits >> np.uint32(16)
    odd &= np.uint32(1)
    odd += np.uint32(0x7FFF)
    odd += bits
    odd >>= np.uint32(16)
    return odd.astype(np.uint16)


def is_bf16(rows: NDArray[np.float32]) -> bool:
    """Tell whether all rows are bfloat16's numbers already, as they are where the source has it."""
    return not np.bitwise_or.reduce(rows.view(np.uint32), axis=None) & 0xFFFF

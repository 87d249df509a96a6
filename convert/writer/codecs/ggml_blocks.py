"""ggml's blocks of 32 weights, packed from codes that were chosen elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.rounding import Grid

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.rounding import Rounded

SIZE = 32


@dataclass(frozen=True, slots=True)
class Block:
    """A scale in float16, an offset where there is one, and the codes."""

    bits: int
    has_offset: bool = False
    levels: tuple[float, ...] = ()


# kvalues_iq4nl
IQ4_NL = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
BLOCKS = {
    "Q4_0": Block(4),
    "Q4_1": Block(4, has_offset=True),
    "Q5_0": Block(5),
    "Q5_1": Block(5, has_offset=True),
    "Q8_0": Block(8),
    "IQ4_NL": Block(4, levels=IQ4_NL),
}


def grid(name: str) -> Grid:
    """Describe the numbers that a type can store."""
    block = BLOCKS[name]
    zero = "free" if block.has_offset else "middle"
    return Grid(block.bits, SIZE, zero, block.levels, store=_to_half)  # type: ignore[arg-type]


def pack(name: str, rounded: Rounded) -> NDArray[np.uint8]:
    """Store each block's codes after its scale: the first half of them below, the second above."""
    block, count = BLOCKS[name], len(rounded.codes)
    codes = rounded.codes.reshape(-1, SIZE)
    parts = [_halves(rounded.scales.scales)]
    if block.has_offset:
        parts.append(_halves(rounded.scales.shifts))
    if block.bits == 8:
        parts.append(codes ^ np.uint8(0x80))  # as int8
    else:
        if block.bits == 5:
            parts.append(np.packbits(codes >> 4, axis=1, bitorder="little"))
        low = codes & np.uint8(15)
        parts.append(low[:, : SIZE // 2] | low[:, SIZE // 2 :] << np.uint8(4))
    return np.concatenate(parts, axis=1).reshape(count, -1)


def _halves(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return values.astype("<f2").reshape(-1, 1).view(np.uint8)


def _to_half(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return values.astype(np.float16).astype(np.float32)

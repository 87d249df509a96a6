"""How much of each matrix's output its rounding loses, on the text that was learned from."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from convert.writer.codecs.compensated import Compensated
from convert.writer.engine import available_threads
from convert.writer.trial import sampled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from convert.model.source import Weights
    from convert.writer.layout import Layout, Slot

DIGITS = 3


def output_errors(
    weights: Weights, layouts: Iterable[Layout], advance: Callable[[int], None] = lambda _bytes: None
) -> dict[str, float]:
    """Give the root of the share of the squares of outputs that is lost, by tensor, on some of its rows.

    Those that nothing was learned of are left out.
    """

    def one(slot: Slot) -> float | None:
        lost = made = 0.0
        for piece, rows in zip(
            slot.pieces, sampled(weights.checkpoint, weights.origins, slot.pieces), strict=True
        ):
            codec = piece.codec
            if isinstance(codec, Compensated) and codec.factor is not None:
                lost += codec.factor.cost(rows - _stored(codec, rows))
                made += codec.factor.cost(rows)
        advance(sum(slot.sizes_bytes))
        return float(f"{(lost / made) ** 0.5:.{DIGITS}g}") if made else None

    slots = slots_of(layouts)
    with ThreadPoolExecutor(available_threads(), thread_name_prefix="measure") as pool:
        found = zip(slots, pool.map(one, slots), strict=True)
        return {slot.name: error for slot, error in found if error is not None}


def slots_of(layouts: Iterable[Layout]) -> list[Slot]:
    """List the tensors that are rounded by what was learned of any part of them."""
    return [
        slot
        for layout in layouts
        for slot in layout.slots
        if any(isinstance(each.codec, Compensated) and each.codec.factor for each in slot.pieces)
    ]


def _stored(codec: Compensated, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round as the pass will, and widen again."""
    grid, rounded = codec.packing.grid, codec.round(rows)
    return rounded.scales.spread(grid, rows.shape[1]).decode(rounded.codes.astype(np.float32), grid)

"""GPTQ's rounding: what a column loses, the columns after it make up for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.rounding.factor import BLOCK
from convert.rounding.grid import Scales, find_scales

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.rounding.factor import Factor, Part
    from convert.rounding.grid import Grid, Rows

# Rows that are rounded together, always as many: products of one shape add in one order.
MAX_ROWS, MIN_ROWS, ROWS_WEIGHTS = 512, 32, 1 << 21


@dataclass(frozen=True, slots=True)
class Rounded:
    """A matrix as codes, one uint8 a weight, and each group's scale and shift."""

    codes: NDArray[np.uint8]
    scales: Scales


def round_rows(
    rows: Rows, grid: Grid, factor: Factor | None = None, *, importance: Rows | None = None
) -> Rounded:
    """Round rows to a grid, each on its own: with a factor so that their products change least.

    Without one, to the nearest. Scales are searched either way, by the importance of each column.
    """
    if factor is not None and factor.device == "cuda":
        from convert.rounding.cuda import round_on_gpu  # noqa: PLC0415 - with an extra

        return Rounded(*round_on_gpu(rows, grid, factor))
    scales = find_scales(rows, grid, importance if factor is None else factor.importance)
    columns = rows.shape[1]
    if factor is None:
        return Rounded(scales.spread(grid, columns).encode(rows, grid).astype(np.uint8), scales)
    codes = np.empty(rows.shape, np.uint8)
    together = rows_together(columns)
    spread = scales.spread(grid, columns)
    for part in factor.parts:
        across = slice(part.first, part.first + part.columns)
        for first in range(0, len(rows), together):
            here = slice(first, first + together), across
            mine = Scales(spread.scales[here], spread.shifts[here])
            codes[here] = _compensated(rows[here], mine, grid, part, together)
    return Rounded(codes, scales)


def rows_together(columns: int) -> int:
    """Choose how many rows are rounded together, by their length alone."""
    return max(MIN_ROWS, min(MAX_ROWS, ROWS_WEIGHTS // columns // MIN_ROWS * MIN_ROWS))


def _compensated(rows: Rows, scales: Scales, grid: Grid, part: Part, together: int) -> NDArray[np.uint8]:
    """Round up to `together` rows; columns lie one after the other in memory meanwhile."""
    count, columns = rows.shape
    wanted, scale, shift = (
        _turned(each, part.order, together) for each in (rows, scales.scales, scales.shifts)
    )
    lost = np.zeros_like(wanted)
    codes = np.empty((columns, together), np.uint8)
    for panel, first in zip(reversed(part.panels), reversed(range(0, columns, BLOCK)), strict=True):
        stop = min(columns, first + BLOCK)
        corner, below = panel[: stop - first], panel[stop - first :]
        target = wanted[first:stop] + below.T @ lost[stop:]
        for at in reversed(range(stop - first)):
            column = first + at
            one = Scales(scale[column], shift[column])
            code = one.encode(target[at], grid)
            codes[column] = code
            error = np.subtract(wanted[column], one.decode(code, grid), out=lost[column])
            if at:
                target[:at] += corner[at, :at, None] * error
    back = np.empty((columns, count), np.uint8)
    back[part.order] = codes[:, :count]
    return np.ascontiguousarray(back.T)


def _turned(rows: Rows, order: NDArray[np.int32], together: int) -> Rows:
    """Make rows of columns, in the factor's order, and fill up with zeros."""
    out = np.zeros((rows.shape[1], together), np.float32)
    out[:, : len(rows)] = rows.T[order]
    return out

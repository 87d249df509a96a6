"""GPTQ's rounding: what a column loses, the columns after it make up for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from convert.rounding.factor import BLOCK
from convert.rounding.grid import Scales, find_scales

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convert.rounding.factor import Factor, Part
    from convert.rounding.grid import Grid, Passes, Rows

# Rows that are rounded together, always as many: products of one shape add in one order.
MAX_ROWS, MIN_ROWS, ROWS_WEIGHTS = 128, 32, 1 << 21


@dataclass(frozen=True, slots=True)
class Rounded:
    """A matrix as codes, one uint8 a weight, and each group's scale and shift."""

    codes: NDArray[np.uint8]
    scales: Scales


def round_rows(
    rows: Rows,
    grid: Grid,
    factor: Factor | None = None,
    *,
    importance: Rows | None = None,
    passes: Passes | None = None,
) -> Rounded:
    """Round rows to a grid, each on its own: with a factor so that their products change least.

    Without one, to the nearest. Scales are searched either way, by the importance of each column. `passes`
    are loops that do the same and are compiled.
    """
    if factor is not None and factor.device == "cuda":
        from convert.rounding.cuda import round_on_gpu  # noqa: PLC0415 - with an extra

        return Rounded(*round_on_gpu(rows, grid, factor))
    scales = find_scales(rows, grid, importance if factor is None else factor.importance, passes=passes)
    columns = rows.shape[1]
    if factor is None:
        return Rounded(scales.spread(grid, columns).encode(rows, grid).astype(np.uint8), scales)
    codes = np.empty(rows.shape, np.uint8)
    spread = scales.spread(grid, columns)
    for part in factor.parts:
        across = slice(part.first, part.first + part.columns)
        together = rows_together(part.columns)
        for first in range(0, len(rows), together):
            here = slice(first, first + together), across
            mine = Scales(spread.scales[here], spread.shifts[here])
            codes[here] = _compensated(rows[here], mine, grid, part, passes)
    return Rounded(codes, scales)


def rows_together(columns: int) -> int:
    """Choose how many rows are rounded together, by their length alone."""
    return max(MIN_ROWS, min(MAX_ROWS, ROWS_WEIGHTS // columns // MIN_ROWS * MIN_ROWS))


def _compensated(
    rows: Rows, scales: Scales, grid: Grid, part: Part, passes: Passes | None
) -> NDArray[np.uint8]:
    """Round as many rows as go together, or fewer; columns lie one after the other in memory meanwhile."""
    count, columns = rows.shape
    together = rows_together(columns)
    wanted, scale, shift = (
        _turned(each, part.order, together) for each in (rows, scales.scales, scales.shifts)
    )
    lost = np.zeros_like(wanted)
    codes = np.empty((columns, together), np.uint8)
    for panel, first in zip(reversed(part.panels), reversed(range(0, columns, BLOCK)), strict=True):
        here = slice(first, min(columns, first + BLOCK))
        width = here.stop - first
        corner, below = panel[:width], panel[width:]
        target = wanted[here] + below.T @ lost[here.stop :]
        if passes is None:
            found = _Panel(target, wanted[here], Scales(scale[here], shift[here]), corner)
            codes[here], lost[here] = found.round(grid)
        else:
            given = target, wanted[here], scale[here], shift[here], corner
            passes.compensate(*given, grid.table, grid.kind, grid.top, codes[here], lost[here])
    back = np.empty((columns, count), np.uint8)
    back[part.order] = codes[:, :count]
    return np.ascontiguousarray(back.T)


class _Panel(NamedTuple):
    """Columns that are rounded from the last to the first, each to make up for those after it."""

    target: Rows
    wanted: Rows
    scales: Scales
    corner: Rows  # what each can do for those after it

    def round(self, grid: Grid) -> tuple[Rows, Rows]:
        """Return their codes, and what each lost."""
        codes, lost = np.empty_like(self.target), np.empty_like(self.target)
        for at in reversed(range(len(self.target))):
            one = Scales(self.scales.scales[at], self.scales.shifts[at])
            codes[at] = one.encode(self.target[at], grid)
            error = np.subtract(self.wanted[at], one.decode(codes[at], grid), out=lost[at])
            if at:
                self.target[:at] += self.corner[at, :at, None] * error
        return codes, lost


def _turned(rows: Rows, order: NDArray[np.int32], together: int) -> Rows:
    """Make rows of columns, in the factor's order, and fill up with zeros."""
    out = np.zeros((rows.shape[1], together), np.float32)
    out[:, : len(rows)] = rows.T[order]
    return out

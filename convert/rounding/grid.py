"""Grids that weights are rounded to, and the search for each group's scale that loses least."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

import numpy as np

from convert.device import is_here, near, on_host
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Rows: TypeAlias = "NDArray[np.float32]"
# Shares of a group's range that are tried, the whole of it first: with less the farthest weights are cut
# off, for finer steps.
SHARES = tuple(np.float32(1 - step / 32) for step in (0, -2, -1, *range(1, 16)))
# Weights whose candidates are compared at once, so that they stay in a core's cache.
STEP_WEIGHTS = 1 << 17
# How codes become weights, as compiled loops know it.
ZERO, FREE, LEVELS = range(3)
# Blocks that a compiled loop takes at once.
LANES = 32


class Passes(Protocol):
    """Compiled loops that give what numpy's do, and sooner."""

    search: Callable[..., None]  # for the best of some scales
    compensate: Callable[..., None]  # within a panel of a factor


@dataclass(frozen=True, slots=True)
class Grid:
    """The numbers that a format can store: codes with a scale for each group of a row.

    `zero` says where nothing is: in the "middle" of the codes, at a "whole" code of each group, or "free",
    where each group has an offset. A weight is (code - zero) * scale, or code * scale + offset;
    with a table of `levels`, levels[code] * scale.
    """

    bits: int
    group_size: int  # 0: the whole row
    zero: Literal["middle", "whole", "free"] = "middle"
    levels: tuple[float, ...] = ()  # ascending
    # Rounds scales and offsets as the file stores them; None: float32.
    store: Callable[[Rows], Rows] | None = field(default=None)
    is_signed: bool = True  # whether a scale may be negative

    @property
    def top(self) -> int:
        """Return the highest code."""
        return len(self.levels) - 1 if self.levels else (1 << self.bits) - 1

    @property
    def kind(self) -> int:
        """Say how codes become weights."""
        return LEVELS if self.levels else FREE if self.zero == "free" else ZERO

    @property
    def table(self) -> Rows:
        """Return the levels, as compiled loops read them."""
        return np.array(self.levels or (0.0,), np.float32)

    @property
    def middle(self) -> int:
        """Return the code of nothing where all groups have the same."""
        return 1 << (self.bits - 1)

    def groups(self, columns: int) -> int:
        """Count the groups of a row."""
        return -(-columns // self.group_size) if self.group_size else 1

    def stored(self, values: NDArray[np.floating[Any]]) -> Rows:
        """Round scales or offsets as they are stored; refuse those that the type cannot reach."""
        kept = values.astype(np.float32, copy=False)
        if self.store is None:
            return kept
        with np.errstate(over="ignore"):
            kept = near(self.store(on_host(kept)), kept)
        if not np.isfinite(kept).all():
            raise Failure("a weight is larger than a scale of this type can reach", "take a wider type")
        return kept


@dataclass(frozen=True, slots=True)
class Scales:
    """What the codes of each group mean, (rows, groups): a scale, and a zero point or an offset."""

    scales: Rows
    shifts: Rows  # zero points, or offsets where the grid's zero is free

    def spread(self, grid: Grid, columns: int) -> Scales:
        """Give each column its group's, (rows, columns)."""
        size = grid.group_size or columns
        return Scales(*(np.repeat(each, size, axis=1)[:, :columns] for each in (self.scales, self.shifts)))

    def encode(self, values: Rows, grid: Grid) -> Rows:
        """Find the codes nearest to the values, as float32; one scale a value."""
        if grid.zero == "free":
            values = values - self.shifts
        ratio = _ratio(values, self.scales)
        if grid.levels:
            levels = np.array(grid.levels, np.float32, like=values)
            return np.searchsorted((levels[1:] + levels[:-1]) / 2, ratio).astype(np.float32)
        if grid.zero != "free":
            ratio += self.shifts
        np.rint(ratio, out=ratio)
        return np.clip(ratio, 0, grid.top, out=ratio)

    def decode(self, codes: Rows, grid: Grid) -> Rows:
        """Return the weights that the codes mean."""
        if grid.levels:
            return np.array(grid.levels, np.float32, like=codes)[codes.astype(np.intp)] * self.scales
        if grid.zero == "free":
            return codes * self.scales + self.shifts
        return (codes - self.shifts) * self.scales


def find_scales(
    rows: Rows,
    grid: Grid,
    importance: Rows | None = None,
    *,
    shares: Sequence[np.float32] = SHARES,
    passes: Passes | None = None,
) -> Scales:
    """Choose each group's scale by the least square error, each column weighed by its importance."""
    count, columns = rows.shape
    size = grid.group_size or columns
    groups = grid.groups(columns)
    weights = (
        np.ones_like(rows, np.float32, shape=columns) if importance is None else importance.astype(np.float32)
    )
    padding = groups * size - columns
    if padding:
        rows = np.pad(rows, ((0, 0), (0, padding)))
        weights = np.pad(weights, (0, padding))
    scales = np.empty_like(rows, np.float32, shape=(count, groups))
    shifts = np.empty_like(rows, np.float32, shape=(count, groups))
    step = max(1, STEP_WEIGHTS // (groups * size)) if is_here(rows) else count
    for first in range(0, count, step):
        here = slice(first, first + step)
        blocks, importances = rows[here].reshape(-1, groups, size), weights.reshape(groups, size)
        found = _search(blocks, importances, grid, shares, passes)
        scales[here], shifts[here] = found.scales, found.shifts
    return Scales(scales, shifts)


def _search(
    blocks: Rows, weights: Rows, grid: Grid, shares: Sequence[np.float32], passes: Passes | None
) -> Scales:
    """Try some shares of each group's range, (rows, groups, size), and keep the best."""
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    tried = (candidate for share in shares for candidate in _candidates(low * share, high * share, grid))
    if passes is not None:
        return _searched(blocks, weights, grid, list(tried), passes)
    best = next(tried)
    least = _error(blocks, weights, grid, best)
    for candidate in tried:
        error = _error(blocks, weights, grid, candidate)
        is_better = error < least
        np.copyto(best.scales, candidate.scales, where=is_better)
        np.copyto(best.shifts, candidate.shifts, where=is_better)
        np.copyto(least, error, where=is_better)
    return best


def _error(blocks: Rows, weights: Rows, grid: Grid, scales: Scales) -> Rows:
    wide = Scales(scales.scales[..., None], scales.shifts[..., None])
    lost = blocks - wide.decode(wide.encode(blocks, grid), grid)
    error: Rows = np.einsum("rgs,rgs,gs->rg", lost, lost, weights)
    return error


def _searched(blocks: Rows, weights: Rows, grid: Grid, tried: Sequence[Scales], passes: Passes) -> Scales:
    """Try them by a compiled loop, which takes as many blocks at once as there are LANES."""
    rows, groups, size = blocks.shape
    count = rows * groups
    scales, shifts = (np.ones((len(tried), -(-count // LANES) * LANES), np.float32) for _ in range(2))
    for number, each in enumerate(tried):
        scales[number, :count], shifts[number, :count] = each.scales.ravel(), each.shifts.ravel()
    best = np.empty(scales.shape[1], np.uint8)
    flat = np.ascontiguousarray(blocks.reshape(count, size))
    passes.search(flat, np.ascontiguousarray(weights), scales, shifts, grid.table, grid.kind, grid.top, best)
    at = best[:count], np.arange(count)
    return Scales(scales[at].reshape(rows, groups), shifts[at].reshape(rows, groups))


def _ratio(values: Rows, scales: Rows) -> Rows:
    """Divide by scales, and give zero where they are."""
    if not is_here(values):  # CuPy divides all or nothing
        found: Rows = values / np.where(scales == 0, np.float32(np.inf), scales)
        return found
    ratio = np.zeros_like(values)
    np.divide(values, scales, out=ratio, where=scales != 0)
    return ratio


def _candidates(low: Rows, high: Rows, grid: Grid) -> list[Scales]:
    """Place the codes over a range from low to high."""
    if grid.levels:
        highest = np.float32(max(map(abs, grid.levels)))
        scales = grid.stored(np.maximum(high, -low) / highest)
        return [Scales(sign * scales, np.zeros_like(low)) for sign in ((1, -1) if grid.is_signed else (1,))]
    if grid.zero == "middle":
        farthest = np.where(high > -low, high, low) if grid.is_signed else np.maximum(high, -low)
        # One code more below the middle than above: that side is for the farthest weight.
        reach = -grid.middle if grid.is_signed else grid.middle - 1
        return [Scales(grid.stored(farthest / np.float32(reach)), np.full_like(low, grid.middle))]
    if grid.zero == "whole":
        low, high = np.minimum(low, 0), np.maximum(high, 0)
    scales = grid.stored((high - low) / np.float32(grid.top))
    if grid.zero == "free":
        # What is cut off is cut off on both sides.
        return [Scales(scales, grid.stored(low))]
    zeros = _ratio(-low, scales)
    return [Scales(scales, np.clip(np.rint(zeros), 0, grid.top))]

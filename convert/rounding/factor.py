"""A Hessian as the factor by which columns make up for the rounding of others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from convert.device import on_host, tile_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

    from numpy.typing import NDArray

# Columns that are rounded one after the other before their errors reach the rest.
BLOCK = 64
# Columns of the tiles that a matrix is factored in, each by one thread.
TILE = 512
# How often damping is raised, tenfold each time, before a matrix is given up.
ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Part:
    """Columns that make up for each other: their Hessian H = L D L', permuted, with L in panels.

    Rounding goes from the last column to the first: those that matter most are last, and are rounded while
    all others can still make up for it. A panel has BLOCK columns of L, from its diagonal down.
    """

    first: int  # of the matrix's columns
    order: NDArray[np.int32]  # which of these columns each is
    weights: NDArray[np.float32]  # D: what an error of each costs
    panels: tuple[NDArray[np.float32], ...]

    @property
    def columns(self) -> int:
        return len(self.order)

    def on_host(self) -> Part:
        """Bring it to the CPU."""
        panels = tuple(map(on_host, self.panels))
        return Part(self.first, on_host(self.order), on_host(self.weights), panels)


@dataclass(frozen=True, slots=True)
class Factor:
    """What the columns of a matrix can do for each other: all of them, or within parts of a wide one."""

    key: str  # distinguishes factors: equal ones round to equal bytes
    damp: float = field(compare=False)
    parts: tuple[Part, ...] = field(compare=False, repr=False)
    device: str = field(default="cpu", compare=False)  # that rounds by it

    @property
    def columns(self) -> int:
        return sum(part.columns for part in self.parts)

    def cost(self, rows: NDArray[np.float32]) -> float:
        """Sum up what rows make of the inputs: the squares of outputs, but for damping."""
        total = 0.0
        for part in self.parts:
            ordered = rows[:, part.first : part.first + part.columns][:, part.order]
            for panel, first in zip(part.panels, range(0, part.columns, BLOCK), strict=True):
                here = slice(first, first + BLOCK)
                found = ordered[:, here] + ordered[:, first:] @ panel
                total += float(np.einsum("ij,ij,j->", found, found, part.weights[here], dtype=np.float64))
        return total

    @property
    def importance(self) -> NDArray[np.float32]:
        """Return what an error of each column costs."""
        found = np.empty(self.columns, np.float32)
        for part in self.parts:
            found[part.first + part.order] = part.weights
        return found


def factorize(
    hessian: NDArray[np.float32], damp: float, pool: Executor, first: int = 0
) -> tuple[Part, float] | None:
    """Factor a Hessian, of which the lower triangle is read; None where no damping makes it definite.

    `damp` is the share of the mean diagonal that is added to it; tenfold where that is too little.
    """
    diagonal = np.diagonal(hessian).copy()
    mean = float(diagonal.mean(dtype=np.float64))
    if not np.isfinite(mean) or mean <= 0:
        return None
    order = np.argsort(diagonal, kind="stable").astype(np.int32)
    for attempt in range(ATTEMPTS):
        tried = damp * 10**attempt
        lower = _permuted(hessian, order, pool)
        lower[np.diag_indices_from(lower)] += np.float32(tried * mean)
        if cholesky(lower, pool):
            break
    else:
        return None
    roots = np.diagonal(lower).copy()
    panels = []
    for start in range(0, len(order), BLOCK):
        stop = min(len(order), start + BLOCK)
        panel = lower[start:, start:stop] / roots[start:stop]
        panel[: stop - start] = np.tril(panel[: stop - start], -1)
        panels.append(panel)
    return Part(first, order, roots * roots, tuple(panels)), tried


def _permuted(hessian: NDArray[np.float32], order: NDArray[np.int32], pool: Executor) -> NDArray[np.float32]:
    """Bring rows and columns into order: the lower triangle, from the lower triangle.

    The upper one of `hessian` is filled meanwhile: whole rows are read faster than numbers here and there.
    """
    size = len(order)
    out = np.empty_like(hessian)
    tile = tile_of(hessian, TILE)

    def mirror(first: int) -> None:
        stop = first + tile
        hessian[first:stop, stop:] = hessian[stop:, first:stop].T
        corner = hessian[first:stop, first:stop]
        corner[...] = np.tril(corner) + np.tril(corner, -1).T

    def permute(first: int) -> None:
        stop = first + tile
        out[first:stop, :stop] = hessian[order[first:stop]][:, order[:stop]]

    for step in (mirror, permute):
        for _done in pool.map(step, range(0, size, tile)):
            pass
    return out


def cholesky(matrix: NDArray[np.float32], pool: Executor) -> bool:
    """Factor in place, into the lower triangle; False where the matrix is not positive definite.

    Tiles are cut in the same places for any number of threads, and so the result is the same.
    """
    size = len(matrix)
    tile = tile_of(matrix, TILE)
    for first in range(0, size, tile):
        stop = min(size, first + tile)
        try:
            corner = np.linalg.cholesky(matrix[first:stop, first:stop])
        except np.linalg.LinAlgError:
            return False
        matrix[first:stop, first:stop] = corner
        if stop == size:
            break
        inverse = _inverse(corner.astype(np.float64)).T.astype(np.float32)
        starts = range(stop, size, TILE)
        solved = [(row, first, stop, inverse) for row in starts]
        for _done in pool.map(lambda args: _solve(matrix, *args), solved):
            pass
        tiles = [(row, column, first, stop) for row in starts for column in range(stop, row + 1, TILE)]
        for _done in pool.map(lambda args: _subtract(matrix, *args), tiles):
            pass
    return bool(np.isfinite(np.diagonal(matrix)).all())


def _inverse(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Invert a triangular matrix, half by half."""
    half = len(lower) // 2
    if half < BLOCK:
        return np.linalg.inv(lower).astype(np.float64, copy=False)
    out = np.zeros_like(lower)
    first, last = _inverse(lower[:half, :half]), _inverse(lower[half:, half:])
    out[:half, :half], out[half:, half:] = first, last
    out[half:, :half] = -last @ (lower[half:, :half] @ first)
    return out


def _solve(
    matrix: NDArray[np.float32], row: int, first: int, stop: int, inverse: NDArray[np.float32]
) -> None:
    matrix[row : row + TILE, first:stop] = matrix[row : row + TILE, first:stop] @ inverse


def _subtract(matrix: NDArray[np.float32], row: int, column: int, first: int, stop: int) -> None:
    rows, columns = matrix[row : row + TILE, first:stop], matrix[column : column + TILE, first:stop]
    matrix[row : row + TILE, column : column + TILE] -= rows @ columns.T

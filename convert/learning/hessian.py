"""What goes into each matrix of a layer, added up: squares of its columns, and a Hessian, X'X."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from convert.device import tile_of
from convert.model.decoder import Ref, Role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Executor

    from numpy.typing import NDArray

    Hessian = NDArray[np.float32]

# Columns of a tile: each is added up by one thread, and only those on and below the diagonal.
TILE = 512
# A Hessian of more columns is not kept whole (this many are 1 GiB): errors stay within parts of the columns.
MAX_COLUMNS = 1 << 14
# Roles that no format stores in few bits: they are small, and choose or weigh what comes after them.
LEFT_OUT = frozenset({Role.ROUTER, Role.SHARED_ROUTER, Role.LATENT_K_UP, Role.LATENT_V_UP})


def is_rounded(ref: Ref) -> bool:
    """Say whether a format may store the matrix in few bits."""
    return ref.role not in LEFT_OUT


def parts_of(columns: int) -> Sequence[range]:
    """Cut the columns of a matrix where their Hessian is too large."""
    count = -(-columns // MAX_COLUMNS)
    step = -(-columns // count // TILE) * TILE
    return [range(first, min(columns, first + step)) for first in range(0, columns, step)]


@dataclass
class Inputs:
    """What some matrices are multiplied with: squares, the Hessian in parts, and the tokens in them."""

    refs: tuple[Ref, ...]
    squares: NDArray[np.float64]
    hessians: list[Hessian]  # float32; none where only squares are wanted
    token_count: int = 0


@dataclass
class Tally:
    """Adds up what the matrices of one layer meet; those that are multiplied with the same share it."""

    pool: Executor
    has_hessians: bool
    inputs: dict[Ref, Inputs] = field(default_factory=dict)  # by the first of their matrices

    def observe(self, refs: tuple[Ref, ...], rows: NDArray[np.float32]) -> None:
        """Add the squares and outer products of rows, (tokens, columns)."""
        columns = rows.shape[1]
        is_factored = self.has_hessians and any(map(is_rounded, refs))
        parts = parts_of(columns) if is_factored else ()
        if refs[0] not in self.inputs:
            empty: list[Hessian] = [np.zeros_like(rows, shape=(len(part), len(part))) for part in parts]
            self.inputs[refs[0]] = Inputs(refs, np.zeros_like(rows, np.float64, shape=columns), empty)
        found = self.inputs[refs[0]]
        found.token_count += len(rows)
        # float32 within a batch, as llama-imatrix adds; float64 over all of them, which it does not.
        found.squares += np.einsum("ij,ij->j", rows, rows)
        tiles = []
        for part, hessian in zip(parts, found.hessians, strict=True):
            here = rows[:, part.start : part.stop]
            tile = tile_of(rows, TILE)
            starts = range(0, len(part), tile)
            tiles += [
                (hessian, here, row, column, tile) for row in starts for column in range(0, row + 1, tile)
            ]
        for _done in self.pool.map(lambda tile: _add(*tile), tiles):
            pass


def _add(hessian: NDArray[np.float32], rows: NDArray[np.float32], row: int, column: int, tile: int) -> None:
    product = rows[:, row : row + tile].T @ rows[:, column : column + tile]
    hessian[row : row + tile, column : column + tile] += product

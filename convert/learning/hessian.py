"""What goes into each matrix of a layer, added up as a Hessian: X'X, in float32."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

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


def parts_of(columns: int) -> Sequence[range]:
    """Cut the columns of a matrix where their Hessian is too large."""
    count = -(-columns // MAX_COLUMNS)
    step = -(-columns // count // TILE) * TILE
    return [range(first, min(columns, first + step)) for first in range(0, columns, step)]


@dataclass
class Inputs:
    """The Hessian of what some matrices are multiplied with, in parts, and the tokens in it."""

    refs: tuple[Ref, ...]
    hessians: list[Hessian]
    token_count: int = 0

    @property
    def columns(self) -> int:
        return sum(map(len, self.hessians))


@dataclass
class Tally:
    """Adds up what the matrices of one layer meet; those that are multiplied with the same share it."""

    pool: Executor
    inputs: dict[Ref, Inputs] = field(default_factory=dict)  # by the first of their matrices

    def observe(self, refs: tuple[Ref, ...], rows: NDArray[np.float32]) -> None:
        """Add the outer products of rows, (tokens, columns)."""
        wanted = tuple(ref for ref in refs if ref.role not in LEFT_OUT)
        if not wanted:
            return
        if wanted[0] not in self.inputs:
            parts = parts_of(rows.shape[1])
            empty: list[Hessian] = [np.zeros((len(part), len(part)), np.float32) for part in parts]
            self.inputs[wanted[0]] = Inputs(wanted, empty)
        found = self.inputs[wanted[0]]
        found.token_count += len(rows)
        tiles = []
        for part, hessian in zip(parts_of(rows.shape[1]), found.hessians, strict=True):
            here = rows[:, part.start : part.stop]
            starts = range(0, len(part), TILE)
            tiles += [(hessian, here, row, column) for row in starts for column in range(0, row + 1, TILE)]
        for _done in self.pool.map(lambda tile: _add(*tile), tiles):
            pass


def _add(hessian: NDArray[np.float32], rows: NDArray[np.float32], row: int, column: int) -> None:
    product = rows[:, row : row + TILE].T @ rows[:, column : column + TILE]
    hessian[row : row + TILE, column : column + TILE] += product

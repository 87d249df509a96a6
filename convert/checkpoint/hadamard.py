"""Rotations by Hadamard matrices of any size whose prime factors are small.

A matrix of size p·q is the Kronecker product of those of p and q, and one of prime size is Hartley's, whose
numbers are cos + sin: that of size two is Hadamard's own. All are symmetric, and their first column is even.
"""

from __future__ import annotations

import hashlib
import math
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Rows = NDArray[np.float32]

# A matrix of prime size costs as many additions a number; published models' hidden sizes have at most 71.
MAX_FACTOR = 128


def factors(size: int) -> list[int]:
    """List the prime factors of a number, from the least."""
    found, factor = [], 2
    while factor * factor <= size:
        while size % factor == 0:
            found.append(factor)
            size //= factor
        factor += 1
    return found + [size] * (size > 1)


class Rotation:
    """An orthogonal matrix of one size, by signs that a seed chooses.

    Only numbers of single elements are added and multiplied, in one order: the same bits on every machine.
    """

    def __init__(self, size: int, seed: int, *, keeps_mean: bool) -> None:
        self.size = size
        self._keeps_mean = keeps_mean
        drawn = hashlib.shake_256(f"rotation {seed}".encode()).digest(-(-size // 8))
        signs = 1 - 2 * np.unpackbits(np.frombuffer(drawn, np.uint8), count=size).astype(np.float32)
        if keeps_mean:
            signs[0] = 1  # of the even column
        # Hadamard's and Hartley's numbers are about one in size, which this makes up for.
        self._signs = (signs / np.float32(size if keeps_mean else math.sqrt(size))).astype(np.float32)

    @cached_property
    def _waves(self) -> list[Rows]:
        """List Hartley's matrices of the prime factors, the largest first, so that most steps are long."""
        found = []
        for size in reversed(factors(self.size)):
            turns = [2 * math.pi * each / size for each in range(size)]
            wave = np.array([math.cos(turn) + math.sin(turn) for turn in turns], np.float32)
            found.append(wave[np.outer(np.arange(size), np.arange(size)) % size])
        return found

    def rows(self, rows: Rows) -> Rows:
        """Multiply rows by the matrix."""
        return np.ascontiguousarray(self.columns(np.ascontiguousarray(rows.T)).T)

    def columns(self, columns: Rows) -> Rows:
        """Multiply columns, as rows, by the matrix: (size, count), each what comes out of it as a column.

        The mean of a row stays where the matrix lies between two of Hadamard's, which bring it to the first
        channel and back.
        """
        count = columns.shape[1]
        if self._keeps_mean:
            columns = self._spread(columns)
        return self._spread(columns * self._signs[:, None]).reshape(self.size, count)

    def _spread(self, columns: Rows) -> Rows:
        """Multiply by the Kronecker product, factor by factor."""
        count, inner = columns.shape[1], self.size
        for wave in self._waves:
            inner //= len(wave)
            given = columns.reshape(-1, len(wave), inner * count)
            taken = np.empty_like(given)
            if len(wave) == 2:  # Hadamard's own
                np.add(given[:, 0], given[:, 1], out=taken[:, 0])
                np.subtract(given[:, 0], given[:, 1], out=taken[:, 1])
            else:
                for number, row in enumerate(wave):
                    taken[:, number] = given[:, 0]  # whose waves begin with one
                    for other in range(1, len(wave)):
                        taken[:, number] += given[:, other] * row[other]
            columns = taken.reshape(self.size, count)
        return columns

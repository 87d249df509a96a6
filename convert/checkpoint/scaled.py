"""A checkpoint whose channels are multiplied by numbers while they are read."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from convert.checkpoint.reader import Checkpoint

Rows = npt.NDArray[np.float32]


@dataclass
class Multipliers:
    """What the first and the last axis of a stored matrix are multiplied by; a vector has the first alone."""

    first: Rows | None = None
    last: Rows | None = None
    is_offset: bool = False  # stored less one


class ScaledCheckpoint(Checkpoint):
    """A checkpoint, and the multipliers of some tensors: each whole, or an element of a stack."""

    is_stored = False

    def __init__(self, base: Checkpoint, scaled: Mapping[tuple[str, int | None], Multipliers]) -> None:
        super().__init__(base.folder, {}, base.tensors.values())
        self._base, self._scaled = base, scaled
        self._stacks = frozenset(name for name, index in scaled if index is not None)

    def rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> Rows:
        """Read some rows of the base, and multiply them."""
        if index is None and name in self._stacks:
            raise TypeError(f"{name}: its elements have multipliers of their own")
        rows = self._base.rows(name, start, stop, index=index, is_transposed=is_transposed)
        found = self._scaled.get((name, index))
        if found is None:
            return rows
        down, across = (found.last, found.first) if is_transposed else (found.first, found.last)
        one = np.float32(found.is_offset)
        rows = rows + one
        if down is not None:
            rows *= down[start:stop, None]
        if across is not None:
            rows *= across
        rows -= one
        return rows

    def release_rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> None:
        """Release the base's pages."""
        self._base.release_rows(name, start, stop, index=index, is_transposed=is_transposed)

    def close(self) -> None:
        """Close the base's files."""
        self._base.close()

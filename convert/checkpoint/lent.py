"""Rows that a thread reads into its own memory, which it uses again for the next."""

from typing import Any

import numpy as np
import numpy.typing as npt

from convert.checkpoint.floats import widen_into


class Scratch:
    """One thread's memory for rows: as they are stored, and in float32."""

    def __init__(self) -> None:
        self._stored = memoryview(bytearray())
        self._wide = np.empty(0, np.float32)

    def stored(self, size_bytes: int) -> memoryview:
        """Return memory for rows as they are stored."""
        if len(self._stored) < size_bytes:
            self._stored = np.empty(size_bytes, np.uint8).data
        return self._stored

    def wide(self, count: int) -> npt.NDArray[np.float32]:
        """Return memory for so many weights."""
        if self._wide.size < count:
            self._wide = np.empty(count, np.float32)
        return self._wide[:count]


# The bits of infinity; what is no number has larger ones.
_INFINITE = {"BF16": 0x7F80, "F16": 0x7C00}
_SIGN = 0x8000


class Lent:
    """Rows, (rows, columns), until the thread reads the next ones."""

    def __init__(self, rows: npt.NDArray[Any], stored_as: str | None, scratch: Scratch) -> None:
        self.rows = rows  # as they are stored, row after row; else in float32
        self.stored_as = stored_as
        self._scratch = scratch
        self._wide: npt.NDArray[np.float32] | None = rows if stored_as is None else None

    def wide(self) -> npt.NDArray[np.float32]:
        """Return the rows in float32."""
        if self._wide is None:
            self._wide = widen_into(self._scratch.wide(self.rows.size), self.rows, str(self.stored_as))
        return self._wide

    def is_finite(self) -> bool:
        """Tell whether all of them are finite numbers."""
        if infinite := _INFINITE.get(self.stored_as or ""):
            # As integers numbers of a sign are in the order of their size, the positive ones above the others
            # where integers have a sign, and below them where they have none.
            signed, unsigned = self.rows.view(np.int16), self.rows.view(np.uint16)
            return bool(signed.max(initial=0) < infinite and unsigned.max(initial=0) < _SIGN + infinite)
        rows = self.wide()
        return bool(np.isfinite(rows.max(initial=0)) and np.isfinite(rows.min(initial=0)))

"""A checkpoint whose hidden states are rotated: what writes them, and what reads them, by one matrix."""

from __future__ import annotations

import math
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.reader import Checkpoint
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from convert.checkpoint.hadamard import Rotation
    from convert.checkpoint.tensor import TensorInfo

    Rows = npt.NDArray[np.float32]

# A tensor, or an element of a stack.
Place: TypeAlias = tuple[str, int | None]
SLICE_WEIGHTS = 1 << 19


@dataclass(frozen=True, slots=True)
class Gain:
    """The weights of a norm."""

    name: str
    is_offset: bool = False  # stored less one


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of a tensor: channels of one axis are multiplied by a norm's weights, and rotated.

    Of a matrix that is `spilled` rows are wanted in which all of a channel's numbers are not at hand.
    """

    axis: int = 0
    gain: Gain | None = None
    is_spilled: bool = False
    is_gain: bool = False  # a norm's own weights, which become one
    is_divided: bool = False  # by the gain: what a norm adds, before its readers multiply it


class RotatedCheckpoint(Checkpoint):
    """A checkpoint that is rotated as it is read; of what cannot be, a rotated copy is read."""

    is_stored = False

    def __init__(
        self,
        base: Checkpoint,
        changes: Mapping[Place, Change],
        rotation: Rotation,
        copies: Mapping[str, str] | None = None,
    ) -> None:
        self._copies = dict(copies or {})  # of tensors under other names
        copied = [replace(base.tensors[of], name=name) for name, of in self._copies.items()]
        super().__init__(base.folder, {}, [*base.tensors.values(), *copied])
        self._base, self._changes, self._rotation = base, changes, rotation
        self._stacks = frozenset(name for name, index in changes if index is not None)
        self._gains = {gain: self._gain(gain) for change in changes.values() if (gain := change.gain)}
        self._vectors = {place: self._vector(place) for place, each in changes.items() if each.is_divided}
        self._spill: Checkpoint | None = None

    @property
    def spilled_bytes(self) -> int:
        """Add up what the rotated copy takes."""
        return sum(4 * math.prod(self.tensors[name].shape) for name in self._spilled())

    def spill(self, folder: Path, threads: int, advance: Callable[[int], None]) -> None:
        """Write the rotated copy, in a file without a name that is gone when it is closed."""
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder) as file, ThreadPoolExecutor(threads, "rotate") as pool:
            path = Path(file.name)
            infos = list(self._places(path))
            os.truncate(path, sum(info.size_bytes for info in infos))
            mapped = MappedFile(path)
            work = [
                pool.submit(self._copy, file.fileno(), info, index, advance)
                for info in infos
                for index in (range(info.shape[0]) if info.name in self._stacks else (None,))
            ]
            try:
                for each in work:
                    each.result()
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        self._spill = Checkpoint(folder, {path: mapped}, infos)

    def _spilled(self) -> list[str]:
        return [*dict.fromkeys(name for (name, _), change in self._changes.items() if change.is_spilled)]

    def _places(self, path: Path) -> Iterator[TensorInfo]:
        at = 0
        for name in self._spilled():
            info = self.tensors[name]
            size_bytes = 4 * math.prod(info.shape)
            yield replace(
                info, dtype="F32", file=path, offset_bytes=at, size_bytes=size_bytes, strides_bytes=None
            )
            at += size_bytes

    def _copy(self, file: int, info: TensorInfo, index: int | None, advance: Callable[[int], None]) -> None:
        """Write a matrix row by row, and rotate its columns in place where these are what is rotated."""
        change = self._changes[info.name, index]
        rows, columns = info.shape[index is not None :]
        offset = info.offset_bytes + 4 * rows * columns * (index or 0)
        step = max(1, SLICE_WEIGHTS // columns)
        gain = self._gains[change.gain] if change.gain else None
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            block = self._base.rows(info.name, start, stop, index=index)
            self._base.release_rows(info.name, start, stop, index=index)
            if gain is not None:
                block = block * (gain if change.axis else gain[start:stop, None])
            block = self._rotation.rows(block) if change.axis else np.ascontiguousarray(block)
            _write(file, block, offset + 4 * start * columns)
            advance(block.nbytes)
        if change.axis == 0:
            with os.fdopen(os.dup(file), "r+b") as opened:
                whole = np.memmap(opened, np.dtype("<f4"), "r+", offset, (rows, columns))
            step = max(1, SLICE_WEIGHTS // rows)
            for start in range(0, columns, step):
                here = np.s_[:, start : start + step]
                whole[here] = self._rotation.columns(np.ascontiguousarray(whole[here]))

    def rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> Rows:
        """Read some rows of the base and rotate them, or of the rotated copy."""
        change, stored = self._changes.get((name, index)), self._copies.get(name, name)
        if change is None:
            rows = self._base.rows(stored, start, stop, index=index, is_transposed=is_transposed)
            if index is not None or name not in self._stacks:
                return rows
            if len(self.tensors[name].shape) > 2 or is_transposed:  # a stack of vectors is rows
                raise TypeError(f"{name}: its elements are rotated one by one")
            return self._rotation.rows(rows)
        if change.is_spilled and self._spill is not None:
            return self._spill.rows(name, start, stop, index=index, is_transposed=is_transposed)
        if change.is_spilled or is_transposed:
            raise TypeError(f"{name}: no copy of it was rotated, or its columns are read")
        if change.is_gain:
            return np.full((stop - start, 1), 1 - (change.gain is not None and change.gain.is_offset), "f4")
        if change.axis == 0:
            found = self._vectors.get((name, index))
            return (self._vector((name, index)) if found is None else found)[start:stop, None]
        rows = self._base.rows(stored, start, stop, index=index)
        return self._rotation.rows(rows * self._gains[change.gain] if change.gain else rows)

    def _gain(self, gain: Gain) -> Rows:
        weights: Rows = self._base.rows(gain.name, 0, self._rotation.size)[:, 0]
        return weights + np.float32(gain.is_offset)

    def _vector(self, place: Place) -> Rows:
        """Rotate a bias; what a norm adds is divided first by what its readers are multiplied by."""
        (name, index), change = place, self._changes[place]
        vector = self._base.rows(name, 0, self._rotation.size, index=index)[:, 0]
        if change.is_divided and change.gain:
            gain = self._gains[change.gain]
            if np.any((gain == 0) & (vector != 0)):
                raise Failure(
                    f"{change.gain.name}: a weight is zero where {name} is not, and none can be rotated",
                    "remove transform.rotation for this model",
                )
            vector = np.divide(vector, gain, out=np.zeros_like(gain), where=gain != 0)
        rotated: Rows = self._rotation.rows(vector[None])[0]
        return rotated

    def release_rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> None:
        """Release the pages of the base, or of the rotated copy."""
        read = self._base
        if self._spill is not None and name in self._spill.tensors:
            read = self._spill
        stored = self._copies.get(name, name)
        read.release_rows(stored, start, stop, index=index, is_transposed=is_transposed)

    def close(self) -> None:
        """Close the files of both."""
        self._base.close()
        if self._spill is not None:
            self._spill.close()


def _write(file: int, block: Rows, offset: int) -> None:
    left = memoryview(block.astype("<f4", copy=False).tobytes())
    while left:
        done = os.pwrite(file, left, offset)
        left, offset = left[done:], offset + done

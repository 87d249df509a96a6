"""All tensors of a folder: the place of each, and lazy reads of its rows."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.checkpoint.floats import WEIGHTS, to_f32
from convert.checkpoint.index import MISMATCHED, Weights, find_weights
from convert.checkpoint.lent import Lent, Scratch
from convert.checkpoint.mapped import AbsentFile, MappedFile
from convert.checkpoint.safetensors import read_safetensors
from convert.checkpoint.tensor import TensorInfo
from convert.checkpoint.torch_file import read_torch
from convert.errors import Failure, shown
from convert.source.shards import Absent


class Checkpoint(AbstractContextManager["Checkpoint"]):
    """The tensors of a folder, in the order of its files.

    Reads are views on mapped files, and safe from any number of threads. `close` drops the maps;
    a map is freed with the last view on it.
    """

    is_stored = True  # its tensors are in its files as they are read

    def __init__(self, folder: Path, files: Mapping[Path, MappedFile], tensors: Iterable[TensorInfo]) -> None:
        self.folder = folder
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType({info.name: info for info in tensors})
        self._files = dict(files)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read rows [start, stop) of axis 0 without a copy, read-only; BF16 as uint16, F8 as uint8."""
        file, info, stop = self._rows(name, start, stop)
        return file.view(info, start, stop)

    def release(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Release the pages of these rows to the kernel; views on them stay valid."""
        file, info, stop = self._rows(name, start, stop)
        file.release(info, start, stop)

    def rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> npt.NDArray[np.float32]:
        """Read some rows of a matrix in float32, (rows, columns), without holding more of it than these.

        A vector's rows have one column; `index` picks a matrix along the first axis of a stack. A transposed
        matrix is stored (columns, rows).
        """
        info = self.tensors[name]
        stored = self.read(name) if index is None else self.read(name, index, index + 1)[0]
        if is_transposed:
            stored = stored[..., start:stop].swapaxes(0, -1)
        elif stored.ndim:
            stored = stored[start:stop]
        return to_f32(stored, info.dtype).reshape(stop - start, -1)

    def release_rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> None:
        """Release the pages of rows that were read; those of a transposed matrix with its last rows."""
        info = self.tensors[name]
        if is_transposed:
            if stop == info.shape[-1]:
                whole = (0, info.shape[0]) if index is None else (index, index + 1)
                self.release(name, *whole)
        elif index is None:
            self.release(name, start, stop)
        else:
            file, _, _ = self._rows(name, index, index + 1)
            file.release(_element(info, index), start, stop)

    @contextmanager
    def lend(
        self,
        scratch: Scratch,
        name: str,
        start: int,
        stop: int,
        *,
        index: int | None = None,
        is_transposed: bool = False,
    ) -> Iterator[Lent]:
        """Lend some rows of a matrix, in a thread's own memory where they are stored one after the other."""
        info = self.tensors[name]
        file = self._files.get(info.file)
        if file is None or is_transposed or info.strides_bytes is not None or info.dtype not in WEIGHTS:
            where: dict[str, Any] = {"index": index, "is_transposed": is_transposed}
            yield Lent(self.rows(name, start, stop, **where), None, scratch)
            self.release_rows(name, start, stop, **where)
            return
        matrix = info if index is None else _element(info, index)
        if not 0 <= start <= stop <= (matrix.shape[0] if matrix.shape else 1):
            raise IndexError(f"{name}: rows {start} to {stop} of {matrix.shape}")
        stored = file.read_into(matrix, start, stop, scratch.stored)
        yield Lent(stored.reshape(stop - start, -1), info.dtype, scratch)

    def close(self) -> None:
        """Close the files."""
        self._files.clear()

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, name: str, start: int, stop: int | None) -> tuple[MappedFile, TensorInfo, int]:
        if not self.is_stored:
            raise TypeError(f"{name}: its rows are computed, and none is stored")
        info = self.tensors[name]
        rows = info.shape[0] if info.shape else 1  # a scalar counts as one row
        stop = rows if stop is None else stop
        if not 0 <= start <= stop <= rows or (not info.shape and stop - start != 1):
            raise IndexError(f"{name}: rows {start} to {stop} of {rows}")
        if info.file not in self._files:
            raise ValueError("read of a closed checkpoint")
        return self._files[info.file], info, stop


def _element(info: TensorInfo, index: int) -> TensorInfo:
    """Describe one tensor of a stack by itself."""
    strides = info.strides_bytes
    step = info.size_bytes // info.shape[0] if strides is None else strides[0]
    return replace(
        info,
        shape=info.shape[1:],
        offset_bytes=info.offset_bytes + index * step,
        size_bytes=info.size_bytes // info.shape[0],
        strides_bytes=None if strides is None else strides[1:],
    )


def open_stored(folder: Path, absent: Mapping[str, Absent] = MappingProxyType({})) -> Checkpoint:
    """Open a folder of weights, and check every header without reading a tensor.

    Files that are `absent` are fetched when a tensor of theirs is read.
    """
    weights = find_weights(folder, absent)
    read_header = {"safetensors": read_safetensors, "torch": read_torch}[weights.format]
    files = {
        path: AbsentFile(path, absent[path.name]) if path.name in absent else MappedFile(path)
        for path in weights.files
    }
    tensors: dict[str, TensorInfo] = {}
    for path, file in files.items():
        for info in read_header(file):
            if other := tensors.get(info.name):
                what = f"{folder}: {shown(info.name)} is both in {other.file.name} and in {path.name}"
                raise Failure(what, MISMATCHED)
            tensors[info.name] = info
    _check_index(weights, tensors)
    return Checkpoint(folder, files, tensors.values())


def _check_index(weights: Weights, tensors: Mapping[str, TensorInfo]) -> None:
    """Check that the index and the shards agree on every tensor."""
    if weights.listed is None:
        return
    for name, shard in weights.listed.items():
        if name not in tensors:
            raise Failure(f"{weights.index}: {shown(name)} is not in {shard.name}", MISMATCHED)
        if tensors[name].file != shard:
            what = f"{weights.index}: {shown(name)} is not in {shard.name} but in {tensors[name].file.name}"
            raise Failure(what, MISMATCHED)
    for name, info in tensors.items():
        if name not in weights.listed:
            raise Failure(f"{info.file}: {shown(name)} is not in {weights.index}", MISMATCHED)

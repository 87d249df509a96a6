"""All tensors of a folder under one roof: where each lies, and lazy reads of its rows."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy.typing as npt

from convert.checkpoint.index import Weights, find_weights
from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.safetensors import read_safetensors
from convert.checkpoint.tensor import TensorInfo, shown
from convert.checkpoint.torch_file import read_torch
from convert.errors import Failure

_REFETCH = "the index and the shards are of different versions: download the folder again"


class Checkpoint:
    """The tensors of a folder, in the order in which they lie in its files.

    Reads are views on mapped files, safe from any number of threads. `close` forgets the maps;
    the memory of one goes with the last view on it.
    """

    def __init__(self, folder: Path, files: Mapping[Path, MappedFile], tensors: Iterable[TensorInfo]) -> None:
        self.folder = folder
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType({info.name: info for info in tensors})
        self._files = dict(files)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Rows [start, stop) of axis 0, read-only and uncopied; BF16 as uint16, F8 as uint8."""
        file, info, stop = self._rows(name, start, stop)
        return file.view(info, start, stop)

    def release(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Let the kernel take back the pages of these rows; views on them stay valid."""
        file, info, stop = self._rows(name, start, stop)
        file.release(info, start, stop)

    def close(self) -> None:
        """Let go of the files."""
        self._files.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, name: str, start: int, stop: int | None) -> tuple[MappedFile, TensorInfo, int]:
        info = self.tensors[name]
        rows = info.shape[0] if info.shape else 1  # a scalar counts as one row
        stop = rows if stop is None else stop
        if not 0 <= start <= stop <= rows or (not info.shape and stop - start != 1):
            raise IndexError(f"{name}: rows {start} to {stop} of {rows}")
        if info.file not in self._files:
            raise ValueError("read of a closed checkpoint")
        return self._files[info.file], info, stop


def open_checkpoint(folder: Path) -> Checkpoint:
    """Open a folder of weights: every header is checked, no tensor is read."""
    weights = find_weights(folder)
    read_header = {"safetensors": read_safetensors, "torch": read_torch}[weights.format]
    files = {path: MappedFile(path) for path in weights.files}
    tensors: dict[str, TensorInfo] = {}
    for path, file in files.items():
        for info in read_header(file):
            if other := tensors.get(info.name):
                raise Failure(
                    f"{folder}: {shown(info.name)} is both in {other.file.name} and in {path.name}", _REFETCH
                )
            tensors[info.name] = info
    _check_promises(weights, tensors)
    return Checkpoint(folder, files, tensors.values())


def _check_promises(weights: Weights, tensors: Mapping[str, TensorInfo]) -> None:
    """The index and its shards must tell the same of every tensor."""
    if weights.promised is None:
        return
    for name, shard in weights.promised.items():
        if name not in tensors:
            raise Failure(f"{weights.index}: {shown(name)} is not in {shard.name}", _REFETCH)
        if tensors[name].file != shard:
            raise Failure(
                f"{weights.index}: {shown(name)} is not in {shard.name} but in {tensors[name].file.name}",
                _REFETCH,
            )
    for name, info in tensors.items():
        if name not in weights.promised:
            raise Failure(f"{info.file}: {shown(name)} is not in {weights.index}", _REFETCH)

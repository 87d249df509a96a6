"""A checkpoint of quantized matrices, read as if it were not quantized."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.checkpoint.quantized.scheme import require_all_widened
from convert.checkpoint.reader import Checkpoint
from convert.errors import Failure, shown

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from convert.checkpoint.quantized.matrix import Matrix
    from convert.checkpoint.quantized.scheme import Scheme
    from convert.checkpoint.tensor import TensorInfo


class WidenedCheckpoint(Checkpoint):
    """Rows are widened as they are read; the scales and the like are no tensors by themselves.

    `dtype` is the type that widened matrices are written in where a format keeps the source's.
    """

    is_stored = False

    def __init__(self, raw: Checkpoint, scheme: Scheme, dtype: str) -> None:
        self._raw = raw
        self._matrices: dict[str, Matrix] = {}
        place_of: dict[str, TensorInfo | None] = {}
        for matrix in scheme.matrices(raw):
            name = matrix.info.name
            first, *others = matrix.parts
            if name in self._matrices or (name in raw.tensors and name != first):
                what = f"{matrix.info.file.name}: {shown(name)} is there in two forms"
                raise Failure(what, "remove the one that is not this model's")
            self._matrices[name] = matrix
            place_of[first] = replace(matrix.info, dtype=dtype)
            place_of |= dict.fromkeys(others)
        tensors: dict[str, TensorInfo] = {}
        passed: dict[str, TensorInfo] = {}
        for name, info in raw.tensors.items():
            if name not in place_of:
                if not scheme.is_dropped(name):
                    passed[name] = info
                    tensors[name] = replace(info, is_idle=True) if scheme.is_idle(raw, name) else info
            elif widened := place_of[name]:
                tensors[widened.name] = widened
        require_all_widened(passed)
        super().__init__(raw.folder, {}, tensors.values())

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read rows of a tensor that is not quantized, as they are stored."""
        self._require_plain(name)
        return self._raw.read(name, start, stop)

    def release(self, name: str, start: int = 0, stop: int | None = None) -> None:
        """Release the pages of rows of a tensor that is not quantized."""
        self._require_plain(name)
        self._raw.release(name, start, stop)

    def rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> npt.NDArray[np.float32]:
        """Read some rows of a matrix in float32, and widen no more of it than these."""
        if matrix := self._matrices.get(name):
            return matrix.rows(self._raw, start, stop, index, is_transposed=is_transposed)
        return self._raw.rows(name, start, stop, index=index, is_transposed=is_transposed)

    def release_rows(
        self, name: str, start: int, stop: int, *, index: int | None = None, is_transposed: bool = False
    ) -> None:
        """Release the pages of rows that were read."""
        if matrix := self._matrices.get(name):
            matrix.release(self._raw, start, stop, index, is_transposed=is_transposed)
        else:
            self._raw.release_rows(name, start, stop, index=index, is_transposed=is_transposed)

    def close(self) -> None:
        """Close the files."""
        self._raw.close()

    def _require_plain(self, name: str) -> None:
        if name in self._matrices:
            raise TypeError(f"{name} is quantized: its rows are read by `rows`")

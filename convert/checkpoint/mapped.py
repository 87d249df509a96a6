"""A file mapped into memory: views without copies, and pages released on request."""

import mmap
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from convert.checkpoint.tensor import STORED_AS, TensorInfo
from convert.errors import Failure

if TYPE_CHECKING:
    from convert.source.shards import Absent

# How far the disk is ahead of all threads.
READ_AHEAD_BYTES = 32 << 20
_LFS_POINTER = b"version https://git-lfs"


class MappedFile:
    """A read-only map of a whole file, with the length that it has when opened.

    If the file is truncated later, the next read of the lost part kills the process with SIGBUS.
    Files from `source` are pinned, and nothing writes to them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._expected = 0  # how far the kernel was asked to read
        try:
            # Before opening, since opening a named pipe waits for its writer.
            if not S_ISREG(path.stat().st_mode):
                raise Failure(f"{path}: not a regular file")
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._descriptor)
            self.size_bytes = os.fstat(self._descriptor).st_size
            if not self.size_bytes:
                raise Failure(f"{path}: the file is empty", "download it again")
            self.bytes = mmap.mmap(self._descriptor, self.size_bytes, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # ValueError: the file shrank in between
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise Failure(f"{path}: cannot be read: {reason}") from error
        if self.bytes[: len(_LFS_POINTER)] == _LFS_POINTER:
            hint = "run `git lfs pull` in that folder, or name the model by its Hub repo"
            raise Failure(f"{path}: this is a Git LFS pointer, not the weights", hint)

    def view(self, info: TensorInfo, start: int, stop: int) -> npt.NDArray[Any]:
        """View rows [start, stop) of axis 0 as an array on the mapped bytes; a scalar is one row."""
        dtype = STORED_AS[info.dtype]
        shape = (stop - start, *info.shape[1:]) if info.shape else ()
        if 0 in shape:
            return np.empty(shape, dtype)
        first, _ = _span_bytes(info, start, stop)
        return np.ndarray(shape, dtype, buffer=self.bytes, offset=first, strides=info.strides_bytes)

    def read_into(
        self, info: TensorInfo, start: int, stop: int, memory: Callable[[int], memoryview]
    ) -> npt.NDArray[Any]:
        """Read rows [start, stop) of axis 0 of a tensor stored in row-major order into memory.

        Threads that touch a map wait for each other: in the kernel, and for the interpreter to release pages.
        """
        first, end = _span_bytes(info, start, stop)
        self._read_ahead(first, end)
        whole = wanted = memory(end - first)[: end - first]
        while wanted:
            count = os.preadv(self._descriptor, [wanted], end - len(wanted))
            if not count:
                raise Failure(f"{self.path}: was cut short while it was read", "fetch the file again")
            wanted = wanted[count:]
        shape = (stop - start, *info.shape[1:]) if info.shape else ()
        return np.ndarray(shape, STORED_AS[info.dtype], buffer=whole)

    def _read_ahead(self, first: int, end: int) -> None:
        """Ask for what comes next before it is waited for; a race asks twice, and does no harm."""
        if not first <= self._expected <= end + 2 * READ_AHEAD_BYTES:
            self._expected = first  # files that are written in another order are read with jumps
        if end + READ_AHEAD_BYTES // 2 > self._expected and hasattr(os, "posix_fadvise"):
            start, self._expected = max(first, self._expected), end + READ_AHEAD_BYTES
            os.posix_fadvise(self._descriptor, start, self._expected - start, os.POSIX_FADV_WILLNEED)

    def release(self, info: TensorInfo, start: int, stop: int) -> None:
        """Drop the pages under rows [start, stop); a later read brings them back unchanged.

        The page with the last byte stays, since the next rows begin there; their release drops it.
        """
        first, end = _span_bytes(info, start, stop)
        first -= first % mmap.PAGESIZE
        if end < self.size_bytes:
            end -= end % mmap.PAGESIZE
        if first < end:
            self.bytes.madvise(mmap.MADV_DONTNEED, first, end - first)


class AbsentFile(MappedFile):
    """A file of which only the beginning is here; all of it is fetched when a tensor is read."""

    def __init__(self, path: Path, absent: "Absent") -> None:
        self.path = path
        self.size_bytes = absent.size_bytes
        self.bytes = absent.beginning  # type: ignore[assignment] # read as the map of a file is
        self._absent = absent
        self._file: MappedFile | None = None
        self._lock = threading.Lock()

    def _whole(self) -> MappedFile:
        with self._lock:
            if self._file is None:
                self._file = MappedFile(self._absent.fetch())
            return self._file

    def view(self, info: TensorInfo, start: int, stop: int) -> npt.NDArray[Any]:
        return self._whole().view(info, start, stop)

    def read_into(
        self, info: TensorInfo, start: int, stop: int, memory: Callable[[int], memoryview]
    ) -> npt.NDArray[Any]:
        return self._whole().read_into(info, start, stop, memory)

    def release(self, info: TensorInfo, start: int, stop: int) -> None:
        if self._file is not None:
            self._file.release(info, start, stop)


def _span_bytes(info: TensorInfo, start: int, stop: int) -> tuple[int, int]:
    """Return the first byte of rows [start, stop) in the file, and the one after their last."""
    if not info.size_bytes or start == stop:
        return info.offset_bytes, info.offset_bytes
    if info.strides_bytes is None:
        row_bytes = info.size_bytes // info.shape[0] if info.shape else info.size_bytes
        return info.offset_bytes + start * row_bytes, info.offset_bytes + stop * row_bytes
    first = info.offset_bytes + start * info.strides_bytes[0]
    sizes = (stop - start, *info.shape[1:])
    reach = sum((size - 1) * stride for size, stride in zip(sizes, info.strides_bytes, strict=True))
    return first, first + reach + STORED_AS[info.dtype].itemsize

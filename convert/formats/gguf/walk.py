"""Reading a stranger's file of importance matrices from its beginning to its end."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.checkpoint.mapped import MappedFile
from convert.errors import Failure, shown

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Ten times what the widest models have.
MAX_FILE_BYTES = 1 << 30
MAX_NAME_BYTES = 1024
DAMAGED = "the file is damaged or cut short: make it again with llama-imatrix, or fetch it again"


class Walk:
    """A position in a stranger's file, every step of it checked against the file's end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at = 0
        self._file = MappedFile(path)
        if self._file.size_bytes > MAX_FILE_BYTES:
            raise Failure(
                f"{path}: {self._file.size_bytes} bytes, more than any importance matrix has",
                "name the file that llama-imatrix wrote",
            )

    def starts_with(self, magic: bytes) -> bool:
        return self._file.bytes[: len(magic)] == magic

    @property
    def left_bytes(self) -> int:
        return self._file.size_bytes - self.at

    def skip(self, size_bytes: int, what: str) -> int:
        if not 0 <= size_bytes <= self.left_bytes:
            raise self.fault(f"{what} runs past the file's end")
        self.at += size_bytes
        return self.at - size_bytes

    def number(self, form: str, what: str) -> Any:
        size_bytes = struct.calcsize(form)
        return struct.unpack_from("<" + form, self._file.bytes, self.skip(size_bytes, what))[0]

    def text(self, size_bytes: int, what: str) -> str:
        start = self.skip(size_bytes, what)
        try:
            return self._file.bytes[start : self.at].decode()
        except UnicodeDecodeError:
            raise self.fault(f"{what} is not UTF-8") from None

    def name(self, size_bytes: int, what: str) -> str:
        if size_bytes > MAX_NAME_BYTES:
            raise self.fault(f"{what} is {size_bytes} bytes long")
        name = self.text(size_bytes, what)
        if not name or not name.isprintable():
            raise self.fault(f"{what} is {shown(name)}")
        return name

    def floats(self, count: int, what: str) -> NDArray[np.float32]:
        start = self.skip(4 * count, what)
        values = np.frombuffer(self._file.bytes, "<f4", count, start)
        return values.astype(np.float32)

    def fault(self, what: str) -> Failure:
        return Failure(f"{self.path}: {what} (near byte {self.at})", DAMAGED)

"""Reading an untrusted file from its beginning to its end, every step checked against the file's end."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint.mapped import MappedFile
from convert.errors import Failure, shown

MAX_NAME_BYTES = 1024


class Walk:
    """A position in an untrusted file."""

    def __init__(self, path: Path, hint: str) -> None:
        self.path = path
        self.at = 0
        self._hint = hint
        self._file = MappedFile(path)
        self.size_bytes = self._file.size_bytes

    def starts_with(self, magic: bytes) -> bool:
        return self._file.bytes[: len(magic)] == magic

    def skip(self, size_bytes: int, what: str) -> int:
        """Step over some bytes; return the offset of the first."""
        if not 0 <= size_bytes <= self.size_bytes - self.at:
            raise self.fault(f"{what} runs past the file's end")
        self.at += size_bytes
        return self.at - size_bytes

    def number(self, form: str, what: str) -> Any:
        size_bytes = struct.calcsize("<" + form)
        return struct.unpack_from("<" + form, self._file.bytes, self.skip(size_bytes, what))[0]

    def text(self, size_bytes: int, what: str) -> str:
        start = self.skip(size_bytes, what)
        try:
            return self._file.bytes[start : self.at].decode()
        except UnicodeDecodeError:
            raise self.fault(f"{what} is not UTF-8") from None

    def name(self, size_bytes: int, what: str) -> str:
        """Read a text that is short and printable."""
        if size_bytes > MAX_NAME_BYTES:
            raise self.fault(f"{what} is {size_bytes} bytes long")
        name = self.text(size_bytes, what)
        if not name or not name.isprintable():
            raise self.fault(f"{what} is {shown(name)}")
        return name

    def floats(self, count: int, what: str) -> NDArray[np.float32]:
        start = self.skip(4 * count, what)
        return np.frombuffer(self._file.bytes, "<f4", count, start).astype(np.float32)

    def fault(self, what: str) -> Failure:
        return Failure(f"{self.path}: {what} (near byte {self.at})", self._hint)

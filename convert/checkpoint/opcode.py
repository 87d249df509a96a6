"""The opcodes of a pickle and their arguments; none is executed.

`pickletools.genops` is not fit for untrusted files: it decodes the arguments of opcodes that are refused
anyway, and resolves escapes in names, unlike Unpickler. So only its table of names is used.
"""

import pickletools
import struct
from collections.abc import Callable, Iterator
from mmap import mmap
from pathlib import Path
from typing import NamedTuple

_MAX_PICKLE_BYTES = 64 * 2**20  # a state dict of 50,000 tensors takes eight


class PickleSource:
    """Reads the bytes of one or more pickles in a mapped file, in order."""

    def __init__(self, path: Path, content: mmap, start: int, end: int) -> None:
        self.path = path
        self.position = start
        self._bytes = content
        self._end = min(end, start + _MAX_PICKLE_BYTES)

    def take(self, count: int) -> bytes:
        """Read exactly `count` bytes; a length beyond the file costs no memory."""
        start, end = self.position, self.position + count
        if end > self._end:
            raise ValueError(f"{count} bytes wanted, {self._end - start} are left")
        self.position = end
        return self._bytes[start:end]

    def take_line(self) -> str:
        newline = self._bytes.find(b"\n", self.position, self._end)
        if newline < 0:
            raise ValueError("a line without an end")
        return self.take(newline + 1 - self.position)[:-1].decode("utf-8")


class Opcode(NamedTuple):
    """One instruction, cheap to create since there are millions; a refused one has no argument."""

    name: str
    argument: object
    position: int


def split(source: PickleSource) -> Iterator[Opcode]:
    """Yield every opcode up to and including the first STOP."""
    name = ""
    while name != "STOP":
        position = source.position
        code = source.take(1)
        if code not in _NAMES:
            raise ValueError(f"{code!r} is not an opcode")
        name = _NAMES[code]
        yield Opcode(name, _ARGUMENTS[name](source) if name in _ARGUMENTS else None, position)


def _number(layout: str) -> Callable[[PickleSource], object]:
    size_bytes = struct.calcsize(layout)

    def read(source: PickleSource) -> object:
        return struct.unpack(layout, source.take(size_bytes))[0]

    return read


def _text(length_bytes: int) -> Callable[[PickleSource], str]:
    def read(source: PickleSource) -> str:
        length = int.from_bytes(source.take(length_bytes), "little")
        return source.take(length).decode("utf-8", "surrogatepass")

    return read


def _long(source: PickleSource) -> int:
    return int.from_bytes(source.take(source.take(1)[0]), "little", signed=True)


def _name(source: PickleSource) -> str:
    """Join a module's line and a name's line with a dot."""
    return f"{source.take_line()}.{source.take_line()}"


_NAMES = {info.code.encode("latin-1"): info.name for info in pickletools.opcodes}
_ARGUMENTS: dict[str, Callable[[PickleSource], object]] = {
    "PROTO": _number("<B"),
    "FRAME": _number("<Q"),
    "BININT": _number("<i"),
    "BININT1": _number("<B"),
    "BININT2": _number("<H"),
    "LONG1": _long,
    "BINFLOAT": _number(">d"),
    "SHORT_BINUNICODE": _text(1),
    "BINUNICODE": _text(4),
    "BINUNICODE8": _text(8),
    "BINPUT": _number("<B"),
    "LONG_BINPUT": _number("<I"),
    "BINGET": _number("<B"),
    "LONG_BINGET": _number("<I"),
    "GLOBAL": _name,
    "INST": _name,
}

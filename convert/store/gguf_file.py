"""Read the header of an untrusted GGUF file, with every bound checked.

gguf-py's own reader raises whatever its indices run into, makes an array of each of 150,000 tokens,
and does not look whether the tensors end within the file.
"""

import mmap
import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from convert.checkpoint.mapped import MappedFile
from convert.errors import Failure

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # version 1 had 32-bit counts and was never common
_MAX_RANK = 4  # GGML_MAX_DIMS
_DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
_MAX_NESTING = 4
_HINT = "the file is damaged or cut short: convert or download it again"

_SCALARS = {
    GGUFValueType.UINT8: struct.Struct("<B"),
    GGUFValueType.INT8: struct.Struct("<b"),
    GGUFValueType.UINT16: struct.Struct("<H"),
    GGUFValueType.INT16: struct.Struct("<h"),
    GGUFValueType.UINT32: struct.Struct("<I"),
    GGUFValueType.INT32: struct.Struct("<i"),
    GGUFValueType.FLOAT32: struct.Struct("<f"),
    GGUFValueType.BOOL: struct.Struct("<?"),
    GGUFValueType.UINT64: struct.Struct("<Q"),
    GGUFValueType.INT64: struct.Struct("<q"),
    GGUFValueType.FLOAT64: struct.Struct("<d"),
}
_U32, _U64 = _SCALARS[GGUFValueType.UINT32], _SCALARS[GGUFValueType.UINT64]

Scalar = str | int | float | bool


@dataclass(frozen=True)
class GgufTensor:
    """A row of the tensor table, its offset counted from the file's start."""

    name: str
    type_name: str
    parameters: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True)
class GgufHeader:
    """The metadata and tensor table of a GGUF file; arrays are only described, as "[151936 × string]"."""

    metadata: dict[str, Scalar]
    tensors: tuple[GgufTensor, ...]
    picked: dict[str, dict[int, str]] = field(default_factory=dict)  # the items of text arrays asked for


def read_gguf(path: Path, pick: Mapping[str, Collection[int]] | None = None) -> GgufHeader:
    """Read the header of a GGUF file whose tensors all end within it, or raise a Failure that says where.

    `pick` names, by key, the items of a text array that are wanted.
    """
    file = MappedFile(path)
    try:
        return _Walk(path, file.bytes, file.size_bytes, pick or {}).header()
    finally:
        file.bytes.close()


class _Walk:
    def __init__(
        self, path: Path, data: mmap.mmap, size_bytes: int, pick: Mapping[str, Collection[int]]
    ) -> None:
        self._path = path
        self._pick = pick
        self._picked: dict[str, dict[int, str]] = {}
        self._data = data
        self._end = size_bytes
        self._at = 0

    def header(self) -> GgufHeader:
        if self._data[:4] != _MAGIC:
            raise Failure(
                f"{self._path}: not a GGUF file (it does not begin with 'GGUF')", "check the file's name"
            )
        self._at = len(_MAGIC)
        version = self._u32("the version")
        if version not in _VERSIONS:
            raise Failure(
                f"{self._path}: GGUF version {version}, and only 2 and 3 (little-endian) are read here",
                "convert it again with a current converter",
            )
        tensor_count, field_count = self._u64("the tensor count"), self._u64("the key count")
        metadata: dict[str, Scalar] = {}
        for index in range(field_count):
            key = self._string(f"key {index}")
            if key in metadata:
                raise self._fault(f"key {key!r} occurs twice")
            metadata[key] = self._value(self._type(key), key, 0)
        rows = [self._row(index) for index in range(tensor_count)]
        return GgufHeader(metadata, self._placed(rows, metadata), self._picked)

    def _placed(self, rows: list[GgufTensor], metadata: dict[str, Scalar]) -> tuple[GgufTensor, ...]:
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise self._fault(f"general.alignment is {alignment!r}, not a power of two")
        start = -(-self._at // alignment) * alignment
        seen: set[str] = set()
        reached, before = start, ""
        placed = [
            GgufTensor(row.name, row.type_name, row.parameters, start + row.offset_bytes, row.size_bytes)
            for row in rows
        ]
        for tensor in sorted(placed, key=lambda each: (each.offset_bytes, each.size_bytes)):
            if tensor.name in seen:
                raise self._fault(f"tensor {tensor.name!r} occurs twice")
            seen.add(tensor.name)
            if tensor.offset_bytes % alignment:
                raise self._fault(f"tensor {tensor.name!r} is not aligned to {alignment} bytes")
            if tensor.offset_bytes < reached:
                raise self._fault(f"tensor {tensor.name!r} overlaps {before!r}")
            reached, before = tensor.offset_bytes + tensor.size_bytes, tensor.name
            if reached > self._end:
                raise self._fault(f"tensor {tensor.name!r} ends at byte {reached}, the file at {self._end}")
        return tuple(placed)

    def _row(self, index: int) -> GgufTensor:
        name = self._string(f"tensor {index}'s name")
        rank = self._u32(f"tensor {name!r}'s rank")
        if rank > _MAX_RANK:
            raise self._fault(f"tensor {name!r} has {rank} dimensions, more than {_MAX_RANK}")
        shape = [self._u64(f"tensor {name!r}'s shape") for _ in range(rank)]
        number = self._u32(f"tensor {name!r}'s type")
        offset = self._u64(f"tensor {name!r}'s offset")
        try:
            kind = GGMLQuantizationType(number)
        except ValueError:
            raise self._fault(f"tensor {name!r} has the type {number}, which ggml does not know") from None
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if shape and shape[0] % block:
            raise self._fault(f"tensor {name!r}: rows of {shape[0]} do not divide into {kind.name}'s {block}")
        parameters = prod(shape)
        return GgufTensor(name, kind.name, parameters, offset, parameters // block * block_bytes)

    def _value(self, kind: GGUFValueType, key: str, depth: int) -> Scalar:
        if kind is GGUFValueType.STRING:
            return self._string(key)
        if kind is not GGUFValueType.ARRAY:
            value: Scalar = self._unpack(_SCALARS[kind], key)
            return value
        if depth >= _MAX_NESTING:
            raise self._fault(f"{key!r} nests arrays more than {_MAX_NESTING} deep")
        item, count = self._type(key), self._u64(f"{key!r}'s length")
        if item in _SCALARS:
            self._skip(count * _SCALARS[item].size, key)
        else:
            wanted = self._pick.get(key, ())
            for index in range(count):  # each item takes bytes, so a false count runs into the file's end
                if item is GGUFValueType.STRING and index in wanted:
                    self._picked.setdefault(key, {})[index] = self._string(key)
                elif item is GGUFValueType.STRING:
                    self._skip(self._u64(key), key)
                else:
                    self._value(item, key, depth + 1)
        return f"[{count} × {item.name.lower()}]"

    def _type(self, key: str) -> GGUFValueType:
        number = self._u32(f"{key!r}'s type")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise self._fault(f"{key!r} has the value type {number}, which GGUF does not know") from None

    def _string(self, what: str) -> str:
        length = self._u64(f"{what}'s length")
        start = self._at
        self._skip(length, what)
        try:
            return self._data[start : self._at].decode("utf-8")
        except UnicodeDecodeError:
            raise self._fault(f"{what} is not UTF-8") from None

    def _u32(self, what: str) -> int:
        return int(self._unpack(_U32, what))

    def _u64(self, what: str) -> int:
        return int(self._unpack(_U64, what))

    def _unpack(self, layout: struct.Struct, what: str) -> int | float | bool:
        start = self._at
        self._skip(layout.size, what)
        value: int | float | bool = layout.unpack_from(self._data, start)[0]
        return value

    def _skip(self, size_bytes: int, what: str) -> None:
        if size_bytes > self._end - self._at:
            raise self._fault(f"{what} runs past the file's end")
        self._at += size_bytes

    def _fault(self, what: str) -> Failure:
        return Failure(f"{self._path}: {what} (near byte {self._at})", _HINT)

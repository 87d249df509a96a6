"""Read the header of an untrusted GGUF file, with every bound checked.

gguf-py's own reader checks no bounds, and makes an array of each of 150,000 tokens.
"""

import struct
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import NamedTuple

from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType

from convert.checkpoint.walk import Walk
from convert.errors import Failure

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)  # version 1 had 32-bit counts and was never common
_MAX_RANK = 4  # GGML_MAX_DIMS
_DEFAULT_ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
_MAX_NESTING = 4
_DAMAGED = "the file is damaged or cut short: convert or download it again"

# By struct's letters.
SCALARS = {
    GGUFValueType.UINT8: "B",
    GGUFValueType.INT8: "b",
    GGUFValueType.UINT16: "H",
    GGUFValueType.INT16: "h",
    GGUFValueType.UINT32: "I",
    GGUFValueType.INT32: "i",
    GGUFValueType.FLOAT32: "f",
    GGUFValueType.UINT64: "Q",
    GGUFValueType.INT64: "q",
    GGUFValueType.FLOAT64: "d",
    GGUFValueType.BOOL: "?",
}

Scalar = str | int | float | bool


class TypeSize(NamedTuple):
    """A ggml_type: its number, weights a block, bytes a block."""

    number: int
    block_size: int
    block_bytes: int


# What gguf-py has from ggml, and what is newer than it.
TYPES = {
    **{each.name: TypeSize(int(each), *map(int, GGML_QUANT_SIZES[each])) for each in GGMLQuantizationType},
    "Q2_0": TypeSize(42, 64, 18),
}
_BY_NUMBER = {size.number: name for name, size in TYPES.items()}


@dataclass(frozen=True)
class GgufTensor:
    """A row of the tensor table, its offset counted from the file's start."""

    name: str
    type_name: str
    parameters: int
    offset_bytes: int
    size_bytes: int
    shape: tuple[int, ...]  # the innermost dimension first


@dataclass(frozen=True)
class GgufHeader:
    """The metadata and tensor table of a GGUF file; arrays are only described, as "[151936 × string]"."""

    metadata: dict[str, Scalar]
    tensors: tuple[GgufTensor, ...]
    texts: dict[str, list[str]] = field(default_factory=dict)  # the text arrays that were asked for


def read_gguf(path: Path, texts: Collection[str] = (), hint: str = _DAMAGED) -> GgufHeader:
    """Read the header of a GGUF file whose tensors all end within it, or raise a Failure that says where.

    `texts` names the keys whose arrays of text are wanted.
    """
    return _Reader(Walk(path, hint), texts).header()


class _Reader:
    def __init__(self, walk: Walk, texts: Collection[str]) -> None:
        self._walk = walk
        self._wanted = texts
        self._texts: dict[str, list[str]] = {}

    def header(self) -> GgufHeader:
        walk = self._walk
        if not walk.starts_with(_MAGIC):
            raise Failure(
                f"{walk.path}: not a GGUF file (it does not begin with 'GGUF')", "check the file's name"
            )
        walk.skip(len(_MAGIC), "the magic")
        version = walk.number("I", "the version")
        if version not in _VERSIONS:
            raise Failure(
                f"{walk.path}: GGUF version {version}, and only 2 and 3 (little-endian) are read here",
                "convert it again with a current converter",
            )
        tensor_count, field_count = walk.number("Q", "the tensor count"), walk.number("Q", "the key count")
        metadata: dict[str, Scalar] = {}
        for index in range(field_count):
            key = self._string(f"key {index}")
            if key in metadata:
                raise walk.fault(f"key {key!r} occurs twice")
            metadata[key] = self._value(self._type(key), key, 0)
        rows = [self._row(index) for index in range(tensor_count)]
        return GgufHeader(metadata, self._placed(rows, metadata), self._texts)

    def _placed(self, rows: list[GgufTensor], metadata: dict[str, Scalar]) -> tuple[GgufTensor, ...]:
        walk = self._walk
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
            raise walk.fault(f"general.alignment is {alignment!r}, not a power of two")
        start = -(-walk.at // alignment) * alignment
        seen: set[str] = set()
        reached, before = start, ""
        placed = [replace(row, offset_bytes=start + row.offset_bytes) for row in rows]
        for tensor in sorted(placed, key=lambda each: (each.offset_bytes, each.size_bytes)):
            if tensor.name in seen:
                raise walk.fault(f"tensor {tensor.name!r} occurs twice")
            seen.add(tensor.name)
            if tensor.offset_bytes % alignment:
                raise walk.fault(f"tensor {tensor.name!r} is not aligned to {alignment} bytes")
            if tensor.offset_bytes < reached:
                raise walk.fault(f"tensor {tensor.name!r} overlaps {before!r}")
            reached, before = tensor.offset_bytes + tensor.size_bytes, tensor.name
            if reached > walk.size_bytes:
                raise walk.fault(
                    f"tensor {tensor.name!r} ends at byte {reached}, the file at {walk.size_bytes}"
                )
        return tuple(placed)

    def _row(self, index: int) -> GgufTensor:
        walk, name = self._walk, self._string(f"tensor {index}'s name")
        rank = walk.number("I", f"tensor {name!r}'s rank")
        if rank > _MAX_RANK:
            raise walk.fault(f"tensor {name!r} has {rank} dimensions, more than {_MAX_RANK}")
        shape = [walk.number("Q", f"tensor {name!r}'s shape") for _ in range(rank)]
        number = walk.number("I", f"tensor {name!r}'s type")
        offset = walk.number("Q", f"tensor {name!r}'s offset")
        if (kind := _BY_NUMBER.get(number)) is None:
            raise walk.fault(f"tensor {name!r} has the type {number}, which ggml does not know")
        _, block, block_bytes = TYPES[kind]
        if shape and shape[0] % block:
            raise walk.fault(f"tensor {name!r}: rows of {shape[0]} do not divide into {kind}'s {block}")
        parameters = prod(shape)
        return GgufTensor(name, kind, parameters, offset, parameters // block * block_bytes, (*shape,))

    def _value(self, kind: GGUFValueType, key: str, depth: int) -> Scalar:
        walk = self._walk
        if kind is GGUFValueType.STRING:
            return self._string(key)
        if kind is not GGUFValueType.ARRAY:
            value: Scalar = walk.number(SCALARS[kind], key)
            return value
        if depth >= _MAX_NESTING:
            raise walk.fault(f"{key!r} nests arrays more than {_MAX_NESTING} deep")
        item, count = self._type(key), walk.number("Q", f"{key!r}'s length")
        if item in SCALARS:
            walk.skip(count * struct.calcsize(SCALARS[item]), key)
        elif item is GGUFValueType.STRING and key in self._wanted:
            self._texts[key] = [self._string(key) for _ in range(count)]
        else:
            for _ in range(count):  # each item takes bytes, so a false count runs into the file's end
                if item is GGUFValueType.STRING:
                    walk.skip(walk.number("Q", key), key)
                else:
                    self._value(item, key, depth + 1)
        return f"[{count} × {item.name.lower()}]"

    def _type(self, key: str) -> GGUFValueType:
        number = self._walk.number("I", f"{key!r}'s type")
        try:
            return GGUFValueType(number)
        except ValueError:
            raise self._walk.fault(f"{key!r} has the value type {number}, which GGUF does not know") from None

    def _string(self, what: str) -> str:
        return self._walk.text(self._walk.number("Q", f"{what}'s length"), what)

"""The bytes before the tensors: GGUF's key-values and tensor table.

Built in memory, so that a file can be planned before it is opened; gguf-py's writer packs only into
an open one, and value by value, where a vocabulary of 150,000 entries is packed here in one join.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

from gguf import GGUF_MAGIC, GGUF_VERSION, GGUFValueType

from convert.checkpoint.gguf_file import SCALARS, TYPES

ALIGNMENT_BYTES = 32  # GGUF_DEFAULT_ALIGNMENT


class _Lengths(dict[int, bytes]):
    """Lengths as they are written, each packed once: a vocabulary has 300,000 of few kinds."""

    def __missing__(self, length: int) -> bytes:
        self[length] = packed = struct.pack("<Q", length)
        return packed


_packed_length = _Lengths().__getitem__


@dataclass(frozen=True, slots=True)
class Field:
    """A key's value and its type; of an array, also the type of its items."""

    value: Any
    type: GGUFValueType
    item_type: GGUFValueType | None = None
    is_packed: bool = False  # `value` is the bytes that are written

    def packed(self) -> Self:
        """Pack the value once, for all files that have the field."""
        return replace(self, value=_value(self), is_packed=True)


@dataclass(frozen=True, slots=True)
class Entry:
    """A row of the tensor table."""

    name: str
    shape: tuple[int, ...]
    type_name: str
    offset_bytes: int  # from the start of the tensors


def align(size_bytes: int) -> int:
    """Round up to where a tensor may begin."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def tensor_bytes(shape: tuple[int, ...], type_name: str) -> int:
    """Say how long a tensor is in a type."""
    _, block_size, block_bytes = TYPES[type_name]
    return math.prod(shape) // block_size * block_bytes


def pack(fields: Mapping[str, Field], entries: Sequence[Entry]) -> bytes:
    """Pack everything before the tensors, padded to where they begin."""
    out = [struct.pack("<IIQQ", GGUF_MAGIC, GGUF_VERSION, len(entries), len(fields))]
    for key, field in fields.items():
        out += (_string(key), struct.pack("<I", field.type), _value(field))
    for entry in entries:
        out += (
            _string(entry.name),
            # ggml counts dimensions from the innermost.
            struct.pack(f"<I{len(entry.shape)}Q", len(entry.shape), *reversed(entry.shape)),
            struct.pack("<IQ", TYPES[entry.type_name].number, entry.offset_bytes),
        )
    header = b"".join(out)
    return header.ljust(align(len(header)), b"\0")


def _string(text: str | bytes) -> bytes:
    return _strings([text])


def _strings(items: Iterable[str | bytes]) -> bytes:
    data = [item.encode() if isinstance(item, str) else item for item in items]
    return b"".join(chain.from_iterable(zip(map(_packed_length, map(len, data)), data, strict=True)))


def _value(field: Field) -> bytes:
    if field.is_packed:
        return bytes(field.value)
    if field.type == GGUFValueType.STRING:
        return _string(field.value)
    if field.type != GGUFValueType.ARRAY:
        return struct.pack("<" + SCALARS[field.type], field.value)
    items = field.value
    if field.item_type is None:
        raise ValueError("an array needs the type of its items")
    head = struct.pack("<IQ", field.item_type, len(items))
    if field.item_type == GGUFValueType.STRING:
        return head + _strings(items)
    return head + struct.pack(f"<{len(items)}{SCALARS[field.item_type]}", *items)

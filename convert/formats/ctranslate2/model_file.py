"""model.bin, planned to the byte: variables by name, each with its shape, type and length, then aliases."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.formats.ctranslate2.variables import EMBEDDINGS, PROJECTION, Number, Tensor
from convert.writer.codecs.int8_rows import Int8Rows
from convert.writer.codecs.plain import WIDTH_BYTES, Plain
from convert.writer.layout import Layout, Slot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convert.formats.hf.tensors import Float

PATH = "model.bin"
# Of the file, and of the specification within it: model_spec.py, transformer_spec.py.
BINARY_VERSION, SPECIFICATION, REVISION = 6, "TransformerDecoderSpec", 8
# The numbers of types, by numpy's names and by safetensors'.
TYPES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "F32": 0, "F16": 4, "BF16": 5}
# The length of a variable is a number of 32 bits.
MOST_BYTES = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A variable in the file: known bytes, or a plane of a tensor."""

    name: str
    type_number: int
    shape: tuple[int, ...]
    size_bytes: int
    data: bytes | None = None
    tensor: Tensor | None = None

    @property
    def head(self) -> bytes:
        """Pack all that comes before its bytes."""
        dims = struct.pack(f"<B{len(self.shape)}I", len(self.shape), *self.shape)
        return _string(self.name) + dims + struct.pack("<BI", self.type_number, self.size_bytes)


def codec_of(tensor: Tensor, dtype: Float, *, has_int8: bool) -> Int8Rows | Plain:
    """Say how a variable's weights are stored."""
    return Int8Rows() if has_int8 and tensor.is_matrix else Plain(dtype)


def entries(
    numbers: Iterable[Number], tensors: Iterable[Tensor], dtype: Float, *, has_int8: bool
) -> list[Entry]:
    """List the variables in the file's order, which is that of their names."""
    found = [
        Entry(each.name, TYPES[each.value.dtype.name], (), each.value.nbytes, each.value.tobytes())
        for each in numbers
    ]
    for each in tensors:
        if has_int8 and each.is_matrix:
            found.append(Entry(each.name, TYPES["int8"], each.shape, math.prod(each.shape), tensor=each))
            scale = f"{each.name}_scale"
            found.append(Entry(scale, TYPES["F32"], each.shape[:1], 4 * each.shape[0], tensor=each))
        else:
            size_bytes = math.prod(each.shape) * WIDTH_BYTES[dtype]
            found.append(Entry(each.name, TYPES[dtype], each.shape, size_bytes, tensor=each))
    return sorted(found, key=lambda entry: entry.name)


def lay_out(found: list[Entry], dtype: Float, *, has_int8: bool, is_tied: bool) -> Layout:
    """Place every variable; `is_tied` for a head that is another name of the embeddings."""
    start = struct.pack("<I", BINARY_VERSION) + _string(SPECIFICATION)
    start += struct.pack("<II", REVISION, len(found))
    fixed, at = [(0, start)], len(start)
    offsets: dict[str, list[int]] = {}
    by_name: dict[str, Tensor] = {}
    for entry in found:
        head = entry.head + (entry.data or b"")
        fixed.append((at, head))
        at += len(head)
        if entry.tensor:
            offsets.setdefault(entry.tensor.name, []).append(at)
            by_name[entry.tensor.name] = entry.tensor
            at += entry.size_bytes
    aliases = {PROJECTION: EMBEDDINGS} if is_tied else {}
    names = (_string(name) for pair in aliases.items() for name in pair)
    end = struct.pack("<I", len(aliases)) + b"".join(names)
    fixed.append((at, end))
    slots = tuple(
        Slot(name, each.pieces, codec_of(each, dtype, has_int8=has_int8), tuple(offsets[name]))
        for name, each in by_name.items()
    )
    return Layout(PATH, at + len(end), tuple(fixed), slots)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<H", len(data) + 1) + data + b"\0"

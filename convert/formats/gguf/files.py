"""The files of an artifact: which tensors go into which, where, and how they are encoded."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import gguf as gguf_py

from convert.formats.gguf import scaling
from convert.formats.gguf.header import Entry, Field, align, pack, tensor_bytes
from convert.model.arrange import TileColumns
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.ggml_blocks import BLOCKS
from convert.writer.codecs.nvfp4 import Nvfp4
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Layout, Piece, Slot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.formats.gguf.importance import Importance
    from convert.formats.gguf.scaling import Scales
    from convert.formats.gguf.tensors import FileTensor
    from convert.learning.asking import Asked
    from convert.writer.codecs import Codec

# The types that are written without libggml.
PLAIN = {"F32", "F16", "BF16"}


def lay_out_files(
    stem: str,
    fields: Mapping[str, Field],
    listed: Sequence[FileTensor],
    types: Mapping[str, str],
    *,
    scales: Scales,
    importance: Importance | None,
    split_max_bytes: int | None,
    asked: Asked | None = None,
) -> list[Layout]:
    """Plan one file, or several below a size."""
    shards = _shards(listed, types, split_max_bytes)
    layout = partial(_layout, types=types, scales=scales, importance=importance, asked=asked)
    if len(shards) == 1:
        return [layout(f"{stem}.gguf", fields, listed)]
    return [
        layout(
            f"{stem}-{number:05}-of-{len(shards):05}.gguf",
            _split_fields(number, len(shards), len(listed), fields),
            shard,
        )
        for number, shard in enumerate(shards, 1)
    ]


def _shards(
    listed: Sequence[FileTensor], types: Mapping[str, str], max_bytes: int | None
) -> list[list[FileTensor]]:
    """Fill files up to the limit, as llama-gguf-split does; a larger tensor has one to itself."""
    shards: list[list[FileTensor]] = [[]]
    filled_bytes = 0
    for tensor in listed:
        size_bytes = align(tensor_bytes(tensor.shape, types[tensor.name]))
        if max_bytes is not None and shards[-1] and filled_bytes + size_bytes > max_bytes:
            shards.append([])
            filled_bytes = 0
        shards[-1].append(tensor)
        filled_bytes += size_bytes
    return shards


def _layout(
    path: str,
    fields: Mapping[str, Field],
    shard: Sequence[FileTensor],
    *,
    types: Mapping[str, str],
    scales: Scales,
    importance: Importance | None,
    asked: Asked | None,
) -> Layout:
    sizes = [align(tensor_bytes(tensor.shape, types[tensor.name])) for tensor in shard]
    offsets = list(itertools.accumulate(sizes, initial=0))
    entries = [
        Entry(tensor.name, tensor.shape, types[tensor.name], offset)
        for tensor, offset in zip(shard, offsets, strict=False)
    ]
    header = pack(fields, entries)
    fixed, slots = [(0, header)], []
    for tensor, offset in zip(shard, offsets, strict=False):
        if tensor.data:
            fixed.append((len(header) + offset, tensor.data))
        else:
            type_name, own = types[tensor.name], scales.get(tensor.name)
            if own is None:
                codec, pieces = codecs_of(type_name, tensor, importance)
            else:
                codec, pieces = scaling.codecs_of(tensor, own, importance)
            if asked and is_rounded(type_name, tensor, is_scaled=own is not None):
                pieces = tuple(
                    replace(
                        piece,
                        codec=asked.codec(
                            piece.ref, piece.codec if isinstance(piece.codec, Nvfp4) else Ggml(type_name)
                        ),
                    )
                    for piece in pieces
                )
            slots.append(Slot(tensor.name, pieces, codec, (len(header) + offset,)))
    return Layout(path, len(header) + offsets[-1], tuple(fixed), tuple(slots))


def is_rounded(type_name: str, tensor: FileTensor, *, is_scaled: bool) -> bool:
    """Tell whether codes can be chosen: of blocks that are packed here, in columns as they are learned of."""
    is_own = all(
        not isinstance(piece.arrange, TileColumns) and not piece.is_turned for piece in tensor.pieces
    )
    return (is_scaled or type_name in BLOCKS) and is_own


def codecs_of(
    type_name: str, tensor: FileTensor, importance: Importance | None
) -> tuple[Codec, tuple[Piece, ...]]:
    """Choose how a tensor is encoded; each expert or head may have its own importance of columns."""
    if type_name in PLAIN:
        return Plain(type_name), tensor.pieces  # type: ignore[arg-type]
    values = importance.values.get(tensor.name) if importance else None
    if values is None:
        return Ggml(type_name), tensor.pieces
    columns = tensor.shape[-1]
    if values.size == columns:
        return Ggml(type_name, values.tobytes()), tensor.pieces
    codecs = [Ggml(type_name, each.tobytes()) for each in values.reshape(-1, columns)]
    experts = (piece.ref.expert for piece in tensor.pieces)
    # Heads that are stacked are pieces of one tensor, in their order.
    places = (number if expert is None else expert for number, expert in enumerate(experts))
    pieces = (replace(piece, codec=codecs[place]) for piece, place in zip(tensor.pieces, places, strict=True))
    return codecs[0], tuple(pieces)


def _split_fields(
    number: int, count: int, tensor_count: int, fields: Mapping[str, Field]
) -> dict[str, Field]:
    """Put the model's fields in the first file alone, and the split's in each."""
    value_types = gguf_py.GGUFValueType
    split = {
        gguf_py.Keys.Split.LLM_KV_SPLIT_NO: Field(number - 1, value_types.UINT16),
        gguf_py.Keys.Split.LLM_KV_SPLIT_COUNT: Field(count, value_types.UINT16),
        gguf_py.Keys.Split.LLM_KV_SPLIT_TENSORS_COUNT: Field(tensor_count, value_types.INT32),
    }
    return {**(fields if number == 1 else {}), **split}


def importance_fields(importance: Importance) -> dict[str, Field]:
    """Say what llama-quantize says of the matrix that it used."""
    string, number = gguf_py.GGUFValueType.STRING, gguf_py.GGUFValueType.UINT32
    fields = {
        "quantize.imatrix.file": Field(importance.file_name, string),
        "quantize.imatrix.entries_count": Field(len(importance.values), number),
        "quantize.imatrix.chunks_count": Field(importance.chunk_count, number),
    }
    if importance.datasets:
        fields["quantize.imatrix.dataset"] = Field(importance.datasets[0], string)
    return fields

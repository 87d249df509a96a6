"""Files of safetensors with the parts of quantized matrices among plain tensors."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from convert.formats.base import Weight
from convert.formats.hf.shards import Entry, index, pack_header, split_whole
from convert.writer.codecs.compressed import Compressed
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Layout, Slot

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convert.formats.compressed_tensors.preset import Preset
    from convert.formats.hf.tensors import Stored
    from convert.learning.asking import Asked
    from convert.writer.codecs import Codec
    from convert.writer.layout import Piece


@dataclass(frozen=True)
class Part:
    """A tensor of the file: a plane of a codec, or bytes that are known beforehand."""

    entry: Entry
    data: bytes | None = None


def shard_layouts(
    stored: Sequence[Stored],
    types: Mapping[str, str],
    presets: Mapping[str, Preset],
    scales: Mapping[str, float],
    *,
    max_bytes: int,
    asked: Asked | None = None,
) -> tuple[tuple[Layout, ...], dict[str, bytes]]:
    """Lay the checkpoint out; `presets` names what is quantized, `scales` the scale of all its scales.

    What is asked to be learned is what that is rounded by.
    """
    of_name = {
        each.name: _tensor(each, types[each.name], presets.get(each.name), scales.get(each.name, 1.0))
        for each in stored
    }
    shards = split_whole(
        {name: [part.entry for part in parts] for name, (_, parts) in of_name.items()}, max_bytes
    )
    by_name = {each.name: each for each in stored}
    layouts = []
    for path, names in shards.items():
        parts = [part for name in names for part in of_name[name][1]]
        header, offsets = pack_header([part.entry for part in parts], keeps_order=True)
        fixed = [(offsets[part.entry.name], part.data) for part in parts if part.data is not None]
        slots = tuple(
            Slot(
                name,
                _rounded(by_name[name].pieces, of_name[name][0], asked),
                of_name[name][0],
                tuple(offsets[part.entry.name] for part in of_name[name][1] if part.data is None),
                by_name[name].is_turned,
            )
            for name in names
        )
        size_bytes = len(header) + sum(part.entry.size_bytes for part in parts)
        layouts.append(Layout(path, size_bytes, ((0, header), *fixed), slots))
    entries = {
        path: [part.entry for name in names for part in of_name[name][1]] for path, names in shards.items()
    }
    return tuple(layouts), index(entries)


def _rounded(pieces: tuple[Piece, ...], codec: Codec, asked: Asked | None) -> tuple[Piece, ...]:
    """Round a quantized matrix, or each that is in it, by what was learned."""
    if asked is None or not isinstance(codec, Compressed):
        return pieces
    return tuple(replace(piece, codec=asked.codec(piece.ref, codec)) for piece in pieces)


def weigh(each: Stored, float_name: str, preset: Preset | None) -> Weight:
    """Count the bytes of a tensor and all that goes with it; without a preset it stays as it is."""
    codec, parts = _tensor(each, float_name, preset, 1.0)
    size_bytes = sum(part.entry.size_bytes for part in parts)
    return Weight(each.pieces[0].ref, size_bytes, math.prod(each.shape), codec)


def _tensor(
    each: Stored, float_name: str, preset: Preset | None, scale: float
) -> tuple[Codec, tuple[Part, ...]]:
    if preset is None:
        plain = Plain(float_name)  # type: ignore[arg-type]  # one of its three
        size_bytes = plain.row_bytes(1)[0] * int(np.prod(each.shape))
        return plain, (Part(Entry(each.name, float_name, each.shape, size_bytes)),)
    codec = preset.codec(float_name, scale)  # type: ignore[arg-type]
    return codec, tuple(_parts(each, float_name, preset, scale))


def _parts(each: Stored, float_name: str, preset: Preset, scale: float) -> Iterator[Part]:
    """List the planes in the codec's order, then what is known beforehand."""
    module, (rows, columns) = each.name.removesuffix(".weight"), each.shape
    codec = preset.stored(float_name)  # type: ignore[arg-type]  # one of its three
    slot = Slot(each.name, each.pieces, codec, ())
    sizes = iter(slot.sizes_bytes)
    blocks = codec.blocks(columns)

    def plane(name: str, dtype: str, shape: tuple[int, int]) -> Part:
        return Part(Entry(f"{module}.{name}", dtype, shape, next(sizes)))

    if preset.is_packed:
        words = -(-columns * codec.bits // 32)
        yield plane(preset.codes, "I32", (rows, words))
    elif preset.element == "FP4":
        yield plane(preset.codes, "U8", (rows, columns // 2))
    else:
        yield plane(preset.codes, "I8" if preset.element == "INT8" else "F8_E4M3", (rows, columns))
    scale_dtype = {"FLOAT": float_name, "E8M0": "U8", "E4M3": "F8_E4M3"}[preset.scale]
    yield plane("weight_scale", scale_dtype, (-(-rows // preset.rows), blocks))
    if not preset.is_symmetric:
        yield plane("weight_zero_point", "I32", (-(-rows * codec.bits // 32), blocks))
    if preset.is_packed:
        shape = np.array(each.shape, "<i8").tobytes()
        yield Part(Entry(f"{module}.weight_shape", "I64", (2,), len(shape)), shape)
    if preset.scale == "E4M3":
        data = np.array([scale], "<f4").tobytes()
        yield Part(Entry(f"{module}.weight_global_scale", "F32", (1,), len(data)), data)

"""Files of safetensors, planned to the byte as its own library writes them, and their index."""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convert.formats.hf.companions import to_json
from convert.formats.hf.tensors import Stored
from convert.writer.codecs.plain import WIDTH_BYTES, Plain
from convert.writer.layout import Layout, Slot

INDEX_NAME = "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a header: safetensors' name of its type, its shape, its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size_bytes: int


def shard_layouts(
    stored: Sequence[Stored], types: Mapping[str, str], max_bytes: int
) -> tuple[tuple[Layout, ...], dict[str, bytes]]:
    """Lay the checkpoint out; the second value is the index, where there is more than one file."""
    of_name = {each.name: each for each in stored}
    shards = split(
        [
            Entry(each.name, types[each.name], each.shape, _size_bytes(each.shape, types[each.name]))
            for each in stored
        ],
        max_bytes,
    )
    layouts = []
    for path, entries in shards.items():
        header, offsets = pack_header(entries)
        slots = tuple(
            Slot(
                entry.name,
                of_name[entry.name].pieces,
                Plain(entry.dtype),  # type: ignore[arg-type]  # one of its three
                (offsets[entry.name],),
                of_name[entry.name].is_turned,
            )
            for entry in entries
        )
        size_bytes = len(header) + sum(entry.size_bytes for entry in entries)
        layouts.append(Layout(path, size_bytes, ((0, header),), slots))
    return tuple(layouts), index(shards)


def split(entries: Sequence[Entry], max_bytes: int) -> dict[str, list[Entry]]:
    """Fill files in the model's order, by the names that Transformers gives them."""
    of_name = {entry.name: entry for entry in entries}
    shards = split_whole({name: [entry] for name, entry in of_name.items()}, max_bytes)
    return {path: [of_name[name] for name in names] for path, names in shards.items()}


def split_whole(tensors: Mapping[str, Sequence[Entry]], max_bytes: int) -> dict[str, list[str]]:
    """Fill files with tensors, each of which may be stored in several parts that stay together."""
    shards: list[list[str]] = [[]]
    filled_bytes = 0
    for name, parts in tensors.items():
        size_bytes = sum(entry.size_bytes for entry in parts)
        if shards[-1] and filled_bytes + size_bytes > max_bytes:
            shards.append([])
            filled_bytes = 0
        shards[-1].append(name)
        filled_bytes += size_bytes
    if len(shards) == 1:
        return {"model.safetensors": shards[0]}
    return {
        f"model-{number:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards, 1)
    }


def index(shards: Mapping[str, Sequence[Entry]]) -> dict[str, bytes]:
    """Say which file holds which tensor, where there is more than one."""
    if len(shards) == 1:
        return {}
    total_bytes = sum(entry.size_bytes for entries in shards.values() for entry in entries)
    names = {entry.name: path for path, entries in shards.items() for entry in entries}
    return {INDEX_NAME: to_json({"metadata": {"total_size": total_bytes}, "weight_map": names})}


def pack_header(
    entries: Sequence[Entry], framework: str = "pt", *, keeps_order: bool = False
) -> tuple[bytes, dict[str, int]]:
    """Pack a header, which says whose tensors these are, and say where in the file each begins.

    The order is the library's own, wide types first, so that each tensor is aligned; then by name. A file
    that keeps the order of its entries, where they are aligned in it, is digested while it is written.
    A second key of metadata would come out of the library in any order, so there is one.
    """
    content: dict[str, Any] = {"__metadata__": {"format": framework}}
    places: dict[str, int] = {}
    at = 0
    ordered = sorted(entries, key=lambda each: (-_rank(each.dtype), each.name))
    for entry in entries if keeps_order and _is_aligned(entries) else ordered:
        places[entry.name] = at
        content[entry.name] = {
            "dtype": entry.dtype,
            "shape": list(entry.shape),
            "data_offsets": [at, at + entry.size_bytes],
        }
        at += entry.size_bytes
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    header = len(text).to_bytes(8, "little") + text
    return header, {name: len(header) + place for name, place in places.items()}


def _is_aligned(entries: Sequence[Entry]) -> bool:
    """Tell whether each tensor begins at a multiple of its numbers' width, one after the other."""
    starts = itertools.accumulate((each.size_bytes for each in entries), initial=0)
    return not any(at % WIDTHS_BYTES[each.dtype] for at, each in zip(starts, entries, strict=False))


# The bytes of a number, in the library's own order, by which it sorts, wide types first; those that a
# checkpoint may have.
WIDTHS_BYTES = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "I16": 2, "F16": 2, "BF16": 2, "I32": 4, "U32": 4, "F32": 4,
    "I64": 8,
}  # fmt: skip
_ORDER = tuple(WIDTHS_BYTES)


def _rank(dtype: str) -> int:
    return _ORDER.index(dtype)


def _size_bytes(shape: tuple[int, ...], dtype: str) -> int:
    return math.prod(shape) * WIDTH_BYTES[dtype]

"""The safetensors header, held to every word of its specification."""

import json
from math import prod
from typing import Any

from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.tensor import STORED_AS, TensorInfo, fault_of_shape, shown
from convert.errors import Failure

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the reference implementation's MAX_HEADER_SIZE
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}
_DAMAGED = "the file is damaged: download it again, or write it again with safetensors"
_CUT_SHORT = "the download was probably cut short: fetch the file again"


def read_safetensors(file: MappedFile) -> list[TensorInfo]:
    """Every tensor of a safetensors file, by offset, after the whole header has been checked."""
    header, data_start = _header(file)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Failure(f"{file.path}: __metadata__ is not a map from string to string", _DAMAGED)
    tensors = [_tensor(file, name, entry, data_start) for name, entry in header.items()]
    tensors.sort(key=lambda info: (info.offset_bytes, info.size_bytes, info.name))
    _check_coverage(file, tensors, data_start)
    return tensors


def _header(file: MappedFile) -> tuple[dict[str, Any], int]:
    if file.size_bytes < _LENGTH_BYTES + 2:
        raise Failure(f"{file.path}: {file.size_bytes} bytes hold no safetensors header", _CUT_SHORT)
    length = int.from_bytes(file.bytes[:_LENGTH_BYTES], "little")
    if length > _MAX_HEADER_BYTES:
        raise Failure(
            f"{file.path}: not a safetensors file (its first 8 bytes announce a header of {length} bytes)",
            _DAMAGED,
        )
    data_start = _LENGTH_BYTES + length
    if data_start > file.size_bytes:
        raise Failure(
            f"{file.path}: the header ends at byte {data_start}, the file at byte {file.size_bytes}",
            _CUT_SHORT,
        )
    text = file.bytes[_LENGTH_BYTES:data_start]
    if not text.startswith(b"{"):
        raise Failure(f"{file.path}: the header does not begin with '{{'", _DAMAGED)
    header = parse_json(text, f"{file.path}: the header", _DAMAGED)
    return header, data_start


def parse_json(text: bytes, what: str, hint: str) -> dict[str, Any]:
    """Parse a JSON object out of a stranger's file, every key of it once."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) < len(pairs):
            seen: set[str] = set()
            twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise Failure(f"{what} names {shown(twice)} twice", hint)
        return entries

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise Failure(f"{what} is not valid JSON ({shown(str(error))})", hint) from error
    if not isinstance(parsed, dict):
        raise Failure(f"{what} is not a JSON object", hint)
    return parsed


def _tensor(file: MappedFile, name: str, entry: object, data_start: int) -> TensorInfo:
    where = f"{file.path}: {shown(name)}"
    if not name.isprintable():
        raise Failure(f"{where}: a tensor name with unprintable characters", _DAMAGED)
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        raise Failure(f"{where}: its entry is not just dtype, shape and data_offsets", _DAMAGED)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORED_AS:
        raise Failure(
            f"{where}: dtype {shown(str(dtype))} is not supported",
            f"supported are {', '.join(STORED_AS)}; a quantised checkpoint is no source to convert from",
        )
    if fault := fault_of_shape(shape):
        raise Failure(f"{where}: {fault}", _DAMAGED)
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int for offset in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise Failure(f"{where}: its data_offsets are not two ascending byte positions", _DAMAGED)
    begin, end = offsets
    if data_start + end > file.size_bytes:
        raise Failure(
            f"{where}: ends at byte {data_start + end}, the file at byte {file.size_bytes}", _CUT_SHORT
        )
    size_bytes = prod(shape) * STORED_AS[dtype].itemsize
    if end - begin != size_bytes:
        raise Failure(
            f"{where}: {dtype} of shape {shape} takes {size_bytes} bytes, its offsets span {end - begin}",
            _DAMAGED,
        )
    return TensorInfo(name, dtype, tuple(shape), file.path, data_start + begin, size_bytes)


def _check_coverage(file: MappedFile, tensors: list[TensorInfo], data_start: int) -> None:
    """The specification wants the data region covered from end to end, by each byte's one tensor."""
    reached, before = data_start, ""
    for info in tensors:
        if info.offset_bytes < reached:
            raise Failure(f"{file.path}: {shown(info.name)} overlaps {shown(before)}", _DAMAGED)
        if info.offset_bytes > reached:
            gap_bytes = info.offset_bytes - reached
            raise Failure(
                f"{file.path}: {gap_bytes} bytes before {shown(info.name)} belong to no tensor", _DAMAGED
            )
        reached, before = reached + info.size_bytes, info.name
    if reached < file.size_bytes:
        raise Failure(
            f"{file.path}: {file.size_bytes - reached} bytes follow the last tensor and belong to none",
            _DAMAGED,
        )

"""The header of a safetensors file, checked against its whole specification."""

from math import prod
from typing import Any

from convert.checkpoint.mapped import MappedFile
from convert.checkpoint.tensor import CUT_SHORT, DAMAGED, STORED_AS, TensorInfo, fault_of_shape
from convert.errors import Failure, shown
from convert.strict_json import parse_object

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000  # the reference implementation's MAX_HEADER_SIZE
_ENTRY_KEYS = {"dtype", "shape", "data_offsets"}


def read_safetensors(file: MappedFile) -> list[TensorInfo]:
    """List the tensors of a safetensors file by offset, after checking the whole header."""
    header, data_start = _header(file)
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise Failure(f"{file.path}: __metadata__ is not a map from string to string", DAMAGED)
    tensors = [_tensor(file, name, entry, data_start) for name, entry in header.items()]
    tensors.sort(key=lambda info: (info.offset_bytes, info.size_bytes, info.name))
    _check_coverage(file, tensors, data_start)
    return tensors


def _header(file: MappedFile) -> tuple[dict[str, Any], int]:
    if file.size_bytes < _LENGTH_BYTES + 2:
        raise Failure(f"{file.path}: {file.size_bytes} bytes hold no safetensors header", CUT_SHORT)
    length = int.from_bytes(file.bytes[:_LENGTH_BYTES], "little")
    if length > _MAX_HEADER_BYTES:
        what = f"not a safetensors file (its first 8 bytes announce a header of {length} bytes)"
        raise Failure(f"{file.path}: {what}", DAMAGED)
    data_start = _LENGTH_BYTES + length
    if data_start > file.size_bytes:
        what = f"the header ends at byte {data_start}, the file at byte {file.size_bytes}"
        raise Failure(f"{file.path}: {what}", CUT_SHORT)
    text = file.bytes[_LENGTH_BYTES:data_start]
    if not text.startswith(b"{"):
        raise Failure(f"{file.path}: the header does not begin with '{{'", DAMAGED)
    return parse_object(text, f"{file.path}: the header", DAMAGED), data_start


def _tensor(file: MappedFile, name: str, entry: object, data_start: int) -> TensorInfo:
    where = f"{file.path}: {shown(name)}"
    if not name.isprintable():
        raise Failure(f"{where}: a tensor name with unprintable characters", DAMAGED)
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        raise Failure(f"{where}: its entry is not just dtype, shape and data_offsets", DAMAGED)
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in STORED_AS:
        hint = f"supported are {', '.join(STORED_AS)}"
        raise Failure(f"{where}: dtype {shown(str(dtype))} is not supported", hint)
    if fault := fault_of_shape(shape):
        raise Failure(f"{where}: {fault}", DAMAGED)
    if (
        not isinstance(offsets, list)
        or len(offsets) != 2
        or not all(type(offset) is int for offset in offsets)
        or not 0 <= offsets[0] <= offsets[1]
    ):
        raise Failure(f"{where}: its data_offsets are not two ascending byte positions", DAMAGED)
    begin, end = offsets
    if data_start + end > file.size_bytes:
        what = f"ends at byte {data_start + end}, the file at byte {file.size_bytes}"
        raise Failure(f"{where}: {what}", CUT_SHORT)
    size_bytes = prod(shape) * STORED_AS[dtype].itemsize
    if end - begin != size_bytes:
        what = f"{dtype} of shape {shape} takes {size_bytes} bytes, its offsets span {end - begin}"
        raise Failure(f"{where}: {what}", DAMAGED)
    return TensorInfo(name, dtype, tuple(shape), file.path, data_start + begin, size_bytes)


def _check_coverage(file: MappedFile, tensors: list[TensorInfo], data_start: int) -> None:
    """Check that every byte of the data region belongs to exactly one tensor."""
    reached, before = data_start, ""
    for info in tensors:
        if info.offset_bytes < reached:
            raise Failure(f"{file.path}: {shown(info.name)} overlaps {shown(before)}", DAMAGED)
        if info.offset_bytes > reached:
            what = f"{info.offset_bytes - reached} bytes before {shown(info.name)} belong to no tensor"
            raise Failure(f"{file.path}: {what}", DAMAGED)
        reached, before = reached + info.size_bytes, info.name
    if reached < file.size_bytes:
        what = f"{file.size_bytes - reached} bytes after the last tensor belong to none"
        raise Failure(f"{file.path}: {what}", DAMAGED)

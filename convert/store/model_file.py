"""Read a bare model file, one without a manifest, for `inspect`."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from convert.errors import Failure

if TYPE_CHECKING:
    from convert.checkpoint.gguf_file import Scalar

_LONGEST_TEXT = 200  # a chat template has a page; the summary only shows that there is one


@dataclass(frozen=True)
class Tally:
    """The count and size of the tensors of one type."""

    tensors: int
    parameters: int
    size_bytes: int


@dataclass(frozen=True)
class FileReport:
    """The result of `inspect` for a bare model file."""

    path: Path
    format: str
    size_bytes: int
    architecture: str | None
    tensor_count: int
    parameters: int
    types: Mapping[str, Tally]
    metadata: Mapping[str, "Scalar"]


def inspect_file(path: Path) -> FileReport:
    """Read the header of a .gguf or .safetensors file; a damaged one is a Failure that says where."""
    if path.suffix not in _READERS:
        what = f"{path}: neither an artifact's folder nor a model file"
        raise Failure(what, f"inspect reads {' and '.join(SUFFIXES)}")
    return _READERS[path.suffix](path)


def _gguf(path: Path) -> FileReport:
    from convert.checkpoint.gguf_file import read_gguf  # noqa: PLC0415 - gguf brings numpy

    header = read_gguf(path)
    architecture = header.metadata.get("general.architecture")
    return _report(
        path,
        architecture if isinstance(architecture, str) else None,
        [(tensor.type_name, tensor.parameters, tensor.size_bytes) for tensor in header.tensors],
        header.metadata,
    )


def _safetensors(path: Path) -> FileReport:
    from convert.checkpoint.mapped import MappedFile  # noqa: PLC0415 - brings numpy
    from convert.checkpoint.safetensors import read_safetensors  # noqa: PLC0415 - the same

    file = MappedFile(path)
    try:
        tensors = read_safetensors(file)
        header_bytes = int.from_bytes(file.bytes[:8], "little")
        metadata = json.loads(file.bytes[8 : 8 + header_bytes]).get("__metadata__", {})
    finally:
        file.bytes.close()
    return _report(
        path, None, [(each.dtype, prod(each.shape), each.size_bytes) for each in tensors], metadata
    )


_READERS = {".gguf": _gguf, ".safetensors": _safetensors}
SUFFIXES = tuple(_READERS)


def _report(
    path: Path,
    architecture: str | None,
    tensors: Iterable[tuple[str, int, int]],
    metadata: Mapping[str, "Scalar"],
) -> FileReport:
    types: dict[str, Tally] = {}
    for name, parameters, size_bytes in tensors:
        so_far = types.get(name, Tally(0, 0, 0))
        types[name] = Tally(
            so_far.tensors + 1, so_far.parameters + parameters, so_far.size_bytes + size_bytes
        )
    return FileReport(
        path=path,
        format=path.suffix.removeprefix("."),
        size_bytes=path.stat().st_size,
        architecture=architecture,
        tensor_count=sum(tally.tensors for tally in types.values()),
        parameters=sum(tally.parameters for tally in types.values()),
        types=dict(sorted(types.items(), key=lambda item: (-item[1].size_bytes, item[0]))),
        metadata={key: _shortened(metadata[key]) for key in sorted(metadata)},
    )


def _shortened(value: "Scalar") -> "Scalar":
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]}… ({len(value)} characters)"
    return value

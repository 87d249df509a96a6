"""llama.cpp's files of importance matrices: both forms are read, the newer one is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGUFValueType
from numpy.typing import NDArray

from convert.checkpoint.gguf_file import read_gguf
from convert.checkpoint.walk import Walk
from convert.errors import Failure, shown
from convert.formats.gguf.header import Entry, Field, align, pack

DATASETS = "imatrix.datasets"  # LLM_KV_IMATRIX_DATASETS and its neighbors
CHUNK_COUNT = "imatrix.chunk_count"
CHUNK_SIZE = "imatrix.chunk_size"
SUMS = ".in_sum2"
COUNTS = ".counts"

# Ten times what the widest models have.
MAX_FILE_BYTES = 1 << 30
MAX_COUNT = 1 << 53
DAMAGED = "the file is damaged or cut short: make it again with llama-imatrix, or fetch it again"


@dataclass(frozen=True, slots=True)
class Sum:
    """Squares of a matrix's inputs, added up column by column, and over how many tokens (or calls).

    Stacked experts have a count each, and their columns follow one another.
    """

    squares: NDArray[np.float32] = field(repr=False)
    counts: tuple[int, ...]

    def mean(self) -> NDArray[np.float32]:
        """Divide as llama-quantize does; what was never seen counts as one."""
        counts = np.array(self.counts, np.float32)[:, None]
        columns = self.squares.reshape(len(counts), -1)
        ones = np.ones_like(columns)
        mean: NDArray[np.float32] = np.divide(columns, counts, out=ones, where=counts > 0).ravel()
        return mean

    @property
    def unseen(self) -> tuple[int, ...]:
        """List the experts that no token reached, by number."""
        return tuple(number for number, count in enumerate(self.counts) if count <= 0)


@dataclass(frozen=True, slots=True)
class ImatrixFile:
    """What such a file holds, its names in their order."""

    sums: Mapping[str, Sum]
    datasets: tuple[str, ...]
    chunk_count: int
    chunk_size: int  # tokens in each; the older form does not say


def read_imatrix(path: Path) -> ImatrixFile:
    """Read an importance matrix in GGUF or in the older form, which begins with the number of its entries."""
    walk = Walk(path, DAMAGED)
    if walk.size_bytes > MAX_FILE_BYTES:
        raise Failure(
            f"{path}: {walk.size_bytes} bytes, more than any importance matrix has",
            "name the file that llama-imatrix wrote",
        )
    return _read_gguf(walk) if walk.starts_with(b"GGUF") else _read_legacy(walk)


def imatrix_bytes(content: ImatrixFile) -> bytes:
    """Pack an importance matrix as llama-imatrix writes it."""
    value_types = GGUFValueType
    fields = {
        "general.type": Field("imatrix", value_types.STRING),
        DATASETS: Field(list(content.datasets), value_types.ARRAY, value_types.STRING),
        CHUNK_COUNT: Field(content.chunk_count, value_types.UINT32),
        CHUNK_SIZE: Field(content.chunk_size, value_types.UINT32),
    }
    entries, blobs, offset_bytes = [], [], 0
    for name, summed in sorted(content.sums.items()):
        squares, counted = summed.squares, np.array(summed.counts, np.float32)
        if len(counted) > 1:
            squares, counted = squares.reshape(len(counted), -1), counted[:, None]
        for suffix, values in ((SUMS, squares), (COUNTS, counted)):
            blob = values.astype("<f4").tobytes()
            entries.append(Entry(name + suffix, values.shape, "F32", offset_bytes))
            blobs.append(blob.ljust(align(len(blob)), b"\0"))
            offset_bytes += len(blobs[-1])
    return pack(fields, entries) + b"".join(blobs)


def _read_legacy(walk: Walk) -> ImatrixFile:
    entry_count = walk.number("i", "the number of entries")
    if entry_count < 1:
        raise walk.fault(f"no importance matrix: it counts {entry_count} entries")
    sums: dict[str, Sum] = {}
    for index in range(entry_count):
        what = f"entry {index}"
        name = walk.name(walk.number("i", f"{what}'s name"), f"{what}'s name")
        call_count, value_count = walk.number("i", what), walk.number("i", what)
        if value_count < 1 or name in sums:
            raise walk.fault(
                f"{name} has {value_count} values" if value_count < 1 else f"{name} occurs twice"
            )
        # Means times calls; where there were none, llama-quantize takes them as they are.
        values = walk.floats(value_count, f"{name}'s values")
        _require_sums(walk, name, values)
        sums[name] = Sum(values, (max(1, call_count),))
    if walk.at == walk.size_bytes:
        return ImatrixFile(sums, (), 0, 0)
    chunk_count = walk.number("i", "the number of chunks")
    dataset = walk.text(walk.number("i", "the dataset's name"), "the dataset's name")
    return ImatrixFile(sums, (dataset,) if dataset else (), max(0, chunk_count), 0)


def _require_sums(walk: Walk, name: str, squares: NDArray[np.float32]) -> None:
    """Refuse what no sum of squares is."""
    if not (np.isfinite(squares).all() and (squares >= 0).all()):
        raise walk.fault(f"the importance of {shown(name)} holds a value that is no sum of squares")


def _read_gguf(walk: Walk) -> ImatrixFile:
    header = read_gguf(walk.path, (DATASETS,), DAMAGED)
    datasets = header.texts.get(DATASETS)
    chunk_count, chunk_size = header.metadata.get(CHUNK_COUNT), header.metadata.get(CHUNK_SIZE)
    if datasets is None or not isinstance(chunk_count, int) or not isinstance(chunk_size, int):
        raise Failure(
            f"{walk.path}: a GGUF file, but no importance matrix: "
            f"{DATASETS}, {CHUNK_COUNT} or {CHUNK_SIZE} is missing",
            "name the file that llama-imatrix wrote",
        )
    arrays: dict[str, NDArray[np.float32]] = {}
    for tensor in header.tensors:
        if tensor.type_name != "F32" or not tensor.name.isprintable():
            raise walk.fault(
                f"{shown(tensor.name)} is of type {tensor.type_name}, and sums and counts are F32"
            )
        walk.at = tensor.offset_bytes
        arrays[tensor.name] = walk.floats(tensor.parameters, tensor.name)
    return ImatrixFile(_paired(walk, arrays), tuple(datasets), chunk_count, chunk_size)


def _paired(walk: Walk, arrays: Mapping[str, NDArray[np.float32]]) -> dict[str, Sum]:
    names = sorted(
        {name.removesuffix(SUMS).removesuffix(COUNTS) for name in arrays if name.endswith((SUMS, COUNTS))}
    )
    if not names:
        raise walk.fault("no importance matrix: it holds no entries")
    sums = {}
    for name in names:
        squares, counts = arrays.get(name + SUMS), arrays.get(name + COUNTS)
        if squares is None or counts is None:
            raise walk.fault(
                f"{name} has {'counts and no sums' if squares is None else 'sums and no counts'}"
            )
        if not counts.size or not squares.size or not np.isfinite(counts).all():
            raise walk.fault(f"{name} has no values or no count")
        if not (abs(counts) < MAX_COUNT).all():
            raise walk.fault(f"{name} counts more than any text has")
        _require_sums(walk, name, squares)
        if squares.size % counts.size:
            raise walk.fault(f"{name} has {squares.size} sums for {counts.size} counts")
        # std::lround rounds halves away from zero.
        sums[name] = Sum(squares, tuple(int(np.floor(np.float64(count) + 0.5)) for count in counts))
    return sums

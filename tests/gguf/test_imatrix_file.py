"""Files of importance matrices: both of llama.cpp's forms, and what a damaged one is told."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gguf
import numpy as np
import pytest

from convert.errors import Failure
from convert.formats.gguf.importance import read_importance, write_importance

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray


def entry(name: bytes, calls: int, values: list[float]) -> bytes:
    head = struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, len(values))
    return head + struct.pack(f"<{len(values)}f", *values)


LEGACY = (
    struct.pack("<i", 2)
    + entry(b"blk.0.attn_q.weight", 3, [3.0, 1.0, 0.1])
    + entry(b"blk.0.ffn_up.weight", 0, [7.0, 8.0])
    + struct.pack("<ii", 3, 8)
    + b"wiki.txt"
)


def test_the_older_form(tmp_path: Path) -> None:
    path = tmp_path / "old.dat"
    path.write_bytes(LEGACY)
    found = read_importance(path)
    expected = np.array([3, 1, 0.1], np.float32) / np.float32(3)
    np.testing.assert_array_equal(found.values["blk.0.attn_q.weight"], expected)
    # Never called: llama-quantize takes what stands there.
    np.testing.assert_array_equal(found.values["blk.0.ffn_up.weight"], [7, 8])
    assert (found.datasets, found.chunk_count, found.file_name) == (("wiki.txt",), 3, "old.dat")
    path.write_bytes(LEGACY[:-16])
    assert read_importance(path).datasets == ()


def write_gguf(path: Path, entries: dict[str, tuple[list[float], list[float]]], **changes: Any) -> Path:
    """Write as llama-imatrix does, with gguf-py."""
    writer = gguf.GGUFWriter(path, "")
    writer.kv_data[0].clear()
    fields: dict[str, Any] = {"datasets": ["a.txt", "b.txt"], "chunk_count": 5, "chunk_size": 512, **changes}
    writer.add_string("general.type", "imatrix")
    writer.add_array("general.tags", [1, 2, 3])
    if fields["datasets"] is not None:
        writer.add_array("imatrix.datasets", fields["datasets"])
    writer.add_uint32("imatrix.chunk_count", fields["chunk_count"])
    writer.add_uint32("imatrix.chunk_size", fields["chunk_size"])
    for name, (sums, counts) in entries.items():
        squares = np.array(sums, np.float32)
        if len(sums) % (len(counts) or 1) == 0:
            squares = squares.reshape(len(counts) or 1, -1)
        writer.add_tensor(name + ".in_sum2", squares)
        if counts:
            writer.add_tensor(name + ".counts", np.array(counts, np.float32).reshape(-1, 1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_form_in_gguf(tmp_path: Path) -> None:
    path = write_gguf(
        tmp_path / "imatrix.gguf",
        {"blk.0.attn_q.weight": ([3.0, 1.0, 0.1], [3.0]), "blk.0.ffn_up.weight": ([7.0, 8.0], [0.0])},
    )
    found = read_importance(path)
    expected = np.array([3, 1, 0.1], np.float32) / np.float32(3)
    np.testing.assert_array_equal(found.values["blk.0.attn_q.weight"], expected)
    np.testing.assert_array_equal(found.values["blk.0.ffn_up.weight"], [1, 1])
    assert (found.datasets, found.chunk_count, found.chunk_size) == (("a.txt", "b.txt"), 5, 512)


@pytest.mark.parametrize(
    ("entries", "changes", "what"),
    [
        ({"blk.0.ffn_up.weight": ([1.0] * 3, [1.0, 2.0])}, {}, "3 sums for 2 counts"),
        ({"blk.0.ffn_up.weight": ([1.0], [])}, {}, "ffn_up.weight has sums and no counts"),
        (
            {"blk.0.ffn_up.weight": ([float("inf")], [1.0])},
            {},
            "ffn_up.weight holds a value",
        ),
        ({"blk.0.ffn_up.weight": ([1.0], [float("nan")])}, {}, "has no values or no count"),
        ({"blk.0.ffn_up.weight": ([-1.0], [1.0])}, {}, "holds a value that is no sum of squares"),
        ({}, {}, "it holds no entries"),
        (
            {"blk.0.ffn_up.weight": ([1.0], [1.0])},
            {"datasets": None},
            "imatrix.datasets",
        ),
    ],
)
def test_refused_gguf(entries: Any, changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(Failure, match=what):
        read_importance(write_gguf(tmp_path / "imatrix.gguf", entries, **changes))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b"\1\0", "the number of entries runs past the file's end"),
        (struct.pack("<i", 0), "counts 0 entries"),
        (struct.pack("<i", -3), "counts -3 entries"),
        (struct.pack("<ii", 1, -1), "entry 0's name runs past"),
        (struct.pack("<ii", 1, 2**31 - 1), "entry 0's name is 2147483647 bytes long"),
        (struct.pack("<i", 1) + entry(b"a\0b", 1, [1.0]), "entry 0's name is"),
        (struct.pack("<i", 1) + entry(b"\xff\xfe", 1, [1.0]), "entry 0's name is not UTF-8"),
        (struct.pack("<i", 1) + entry(b"a", 1, []), "a has 0 values"),
        (struct.pack("<i", 2) + 2 * entry(b"a", 1, [1.0]), "a occurs twice"),
        (struct.pack("<i", 1) + entry(b"a", 1, [float("nan")]), "importance of a holds a value"),
        (LEGACY[:-3], "the dataset's name runs past the file's end"),
        (LEGACY[:60], "ffn_up.weight|runs past the file's end"),
    ],
    ids=[
        *("empty", "two bytes", "no entries", "fewer than none", "cut before a name", "endless name"),
        *("null byte", "not UTF-8", "no values", "twice", "nan", "cut in the dataset", "cut in an entry"),
    ],
)
def test_damaged_older_form(data: bytes, what: str, tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(data)
    with pytest.raises(Failure, match=what):
        read_importance(path)


def test_no_damage_is_more_than_a_failure(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "imatrix.gguf", {"blk.0.attn_q.weight": ([3.0, 1.0, 0.1], [3.0])})
    random = np.random.default_rng(0)
    for data in (path.read_bytes(), LEGACY):
        refused = []
        for _ in range(300):
            damaged = bytearray(data[: random.integers(1, len(data) + 1)] if random.random() < 0.3 else data)
            for place in random.integers(0, len(damaged), random.integers(1, 4)):
                damaged[place] = random.integers(0, 256)
            path.write_bytes(damaged)
            try:
                read_importance(path)
            except Failure as failure:
                refused.append(failure.message)
        assert len(refused) > 100
        assert all(str(path) in message for message in refused)


def test_the_older_form_written_anew_gives_the_same_values(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(LEGACY)
    old = read_importance(path)
    write_importance(old, path)
    new = read_importance(path)
    for name, values in old.values.items():
        np.testing.assert_array_equal(new.values[name], values)
    write_importance(replace(old, sums={}), path)
    for name, values in old.values.items():
        np.testing.assert_array_equal(read_importance(path).values[name], values)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("/home/someone/texts/wiki.txt", "wiki.txt"),
        ("C:\\Users\\someone\\wiki.txt", "wiki.txt"),
        ("~/wiki.txt", "wiki.txt"),
        ("texts/wiki.txt", "texts/wiki.txt"),
        ("wiki.txt", "wiki.txt"),
    ],
)
def test_a_dataset_loses_the_folder_it_lay_in(name: str, kept: str, tmp_path: Path) -> None:
    entries = {"blk.0.ffn_up.weight": ([6.0], [2.0])}
    assert read_importance(write_gguf(tmp_path / "i.gguf", entries, datasets=[name])).datasets == (kept,)


def test_half_of_a_count_is_rounded_as_in_c(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "i.gguf", {"blk.0.ffn_up.weight": ([6.0], [2.5])})
    values: NDArray[np.float32] = read_importance(path).values["blk.0.ffn_up.weight"]
    assert values.tolist() == [2.0]

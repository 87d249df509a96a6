"""Safetensors: what the reference library writes is read back, and each kind of damage has its sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from tests.checkpoint.checkpoint_files import TORCH_DTYPES, assemble, bits, entry, seeded_tensors, sound


def test_every_dtype_is_read_as_the_reference_library_wrote_it(tmp_path: Path) -> None:
    tensors = seeded_tensors()
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            info = checkpoint.tensors[name]
            assert TORCH_DTYPES[info.dtype] == tensor.dtype
            assert info.shape == tuple(tensor.shape)
            assert info.size_bytes == tensor.nbytes
            array = checkpoint.read(name)
            assert array.shape == info.shape
            assert array.tobytes() == bits(tensor)


def test_tensors_come_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    save_file(seeded_tensors(), tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        offsets = [info.offset_bytes for info in checkpoint.tensors.values()]
    assert offsets == sorted(offsets)


def test_rows_are_views_on_the_file_and_survive_release_and_close(tmp_path: Path) -> None:
    tensor = torch.randn(3000, 64)
    save_file({"w": tensor}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    rows = checkpoint.read("w", 100, 2900)
    assert not rows.flags.owndata
    assert not rows.flags.writeable
    checkpoint.release("w", 100, 2900)
    checkpoint.release("w")
    checkpoint.close()
    assert rows.tobytes() == bits(tensor[100:2900])
    with pytest.raises(ValueError, match="closed"):
        checkpoint.read("w")


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads Linux's page accounts")
def test_released_pages_leave_the_process(tmp_path: Path) -> None:
    def resident_kib() -> int:
        lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith("Rss:")))

    rows, columns = 4096, 1024
    save_file({"w": torch.ones(rows, columns)}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        before = resident_kib()
        for start in range(0, rows, 256):
            checkpoint.read("w", start, start + 256).sum()
            checkpoint.release("w", start, start + 256)
        assert resident_kib() - before < 4096  # of 16 MiB


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (2, 1), (0, 6), (7, None)])
def test_rows_that_do_not_exist_are_a_bug(tmp_path: Path, start: int, stop: int | None) -> None:
    save_file({"w": torch.zeros(5, 2)}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint, pytest.raises(IndexError, match="of 5"):
        checkpoint.read("w", start, stop)


FAULTS: dict[str, tuple[bytes, str]] = {
    "an empty file": (b"", "empty"),
    "no room for a header": (b"\2\0\0\0\0\0\0\0{", "hold no safetensors header"),
    "a monstrous header": (b"\xff" * 8 + b"{}", "announce a header"),
    "a header beyond the end": (b"\x40\0\0\0\0\0\0\0{}", "the header ends at byte 72, the file at byte 10"),
    "no brace first": (assemble(b" {}", b""), "does not begin with '{'"),
    "no JSON": (assemble(b"{nonsense}", b""), "not valid JSON"),
    "no UTF-8": (assemble(b'{"\xff": 1}', b""), "not valid JSON"),
    "deep nesting": (assemble(b'{"a":' + b"[" * 100_000, b""), "not valid JSON"),
    "an endless number": (assemble(b'{"a":' + b"9" * 10_000 + b"}", b""), "not valid JSON"),
    "a name twice": (assemble(b'{"a":1,"a":1}', b""), "the key a is given twice"),
    "a key twice inside": (
        assemble(b'{"a":{"dtype":"F32","dtype":"F16"}}', b""),
        "the key dtype is given twice",
    ),
    "a number for an entry": (assemble({"w": 3}, b""), "w: its entry is not just"),
    "an entry too many": (assemble({"w": {**entry("U8", [1], 0, 1), "x": 0}}, b"\0"), "w: its entry"),
    "a missing entry": (assemble({"w": {"dtype": "U8", "shape": [1]}}, b"\0"), "w: its entry"),
    "metadata of a number": (assemble({"__metadata__": {"a": 1}}, b""), "__metadata__"),
    "metadata of a list": (assemble({"__metadata__": []}, b""), "__metadata__"),
    "an unknown dtype": (assemble({"w": entry("F4", [2], 0, 1)}, b"\0"), "w: dtype F4 is not supported"),
    "a dtype that is a list": (assemble({"w": entry([], [], 0, 1)}, b"\0"), "w: dtype"),  # type: ignore[arg-type]
    "a negative size": (assemble({"w": entry("U8", [-1], 0, 1)}, b"\0"), "w: its shape"),
    "a size of 1.0": (assemble({"w": entry("U8", [1.0], 0, 1)}, b"\0"), "w: its shape"),
    "a size of true": (assemble({"w": entry("U8", [True], 0, 1)}, b"\0"), "w: its shape"),
    "too many dimensions": (assemble({"w": entry("U8", [1] * 33, 0, 1)}, b"\0"), "33 dimensions"),
    "zero times too much": (assemble({"w": entry("U8", [0, 2**62, 2**62], 0, 0)}, b""), "too large"),
    "descending offsets": (assemble({"w": entry("U8", [1], 1, 0)}, b"\0"), "w: its data_offsets"),
    "negative offsets": (assemble({"w": entry("U8", [1], -1, 0)}, b"\0"), "w: its data_offsets"),
    "an end beyond the file": (assemble({"w": entry("U8", [9], 0, 9)}, b"\0"), "w: ends at byte"),
    "a size that lies": (assemble({"w": entry("F32", [2], 0, 4)}, b"\0" * 4), "takes 8 bytes, its offsets"),
    "an overlap": (
        assemble({"a": entry("U8", [2], 0, 2), "b": entry("U8", [2], 1, 3)}, b"\0" * 3),
        "b overlaps a",
    ),
    "a hole": (
        assemble({"a": entry("U8", [1], 0, 1), "b": entry("U8", [1], 2, 3)}, b"\0" * 3),
        "1 bytes before b belong to no tensor",
    ),
    "a hole at the start": (assemble({"b": entry("U8", [1], 2, 3)}, b"\0" * 3), "2 bytes before b"),
    "bytes after the last tensor": (assemble({"w": entry("U8", [1], 0, 1)}, b"\0" * 3), "2 bytes after"),
    "a line break in a name": (assemble({"a\nb": entry("U8", [1], 0, 1)}, b"\0"), "unprintable"),
    "half a surrogate pair in a name": (
        assemble(rb'{"a\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"\0"),
        "half a character",
    ),
    "a Git LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_one_line_that_names_it(tmp_path: Path, fault: str) -> None:
    content, sentence = FAULTS[fault]
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(Failure) as caught:
        open_checkpoint(tmp_path)
    assert sentence in caught.value.message
    assert str(tmp_path / "model.safetensors") in caught.value.message
    assert caught.value.message.isprintable()  # one line, and any terminal can show it


def test_the_hand_written_sound_file_is_sound(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(sound())
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.read("b").view("u1").tolist() == [16, 17, 18, 19, 20, 21]


def test_spaces_after_the_header_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(assemble(b'{"__metadata__":{"format":"pt"}}   ', b""))
    with open_checkpoint(tmp_path) as checkpoint:
        assert not checkpoint.tensors


@pytest.mark.parametrize("length", range(len(sound())))
def test_no_cut_passes_unseen(tmp_path: Path, length: int) -> None:
    (tmp_path / "model.safetensors").write_bytes(sound()[:length])
    with pytest.raises(Failure):
        open_checkpoint(tmp_path)


def test_every_flip_in_the_header_is_refused_or_read(tmp_path: Path) -> None:
    whole = sound()
    data_start = len(whole) - 22
    noise = np.random.default_rng(3)
    file = tmp_path / "model.safetensors"
    refused = 0
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(noise.integers(1, 4)):
            damaged[noise.integers(data_start)] = noise.integers(256)
        file.write_bytes(damaged)
        if fault := fault_of(tmp_path):
            assert fault.isprintable()
            refused += 1
    assert refused > 500


def fault_of(folder: Path) -> str | None:
    try:
        with open_checkpoint(folder) as checkpoint:
            arrays: list[Any] = [checkpoint.read(name) for name in checkpoint.tensors]
    except Failure as failure:
        return failure.message
    assert sum(array.nbytes for array in arrays) == 22
    return None

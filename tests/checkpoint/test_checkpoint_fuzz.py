"""Thousands of damaged files: each is refused with a Failure or read, in bounded memory, and nothing else."""

import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
import torch

from convert.checkpoint import open_checkpoint, to_f32
from convert.errors import Failure
from tests.checkpoint.checkpoint_files import sound

LIMIT_BYTES = 64 * 2**20
MANY = pytest.mark.parametrize("count", [500, pytest.param(6_000, marks=pytest.mark.slow)])
FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}


@pytest.fixture
def bounded_memory() -> Iterator[None]:
    tracemalloc.start()
    yield
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < LIMIT_BYTES


def outcome_of(folder: Path) -> str:
    """Open the folder, read all of it, and say "read" or the one line that refused it."""
    try:
        with open_checkpoint(folder) as checkpoint:
            for name, info in checkpoint.tensors.items():
                array = checkpoint.read(name)
                assert array.nbytes == info.size_bytes <= info.file.stat().st_size
                array.tobytes()
                if info.dtype in FLOATS:
                    to_f32(array, info.dtype)
                checkpoint.release(name)
    except Failure as failure:
        return failure.message
    return "read"


def damaged(content: bytes, region: range, noise: Random) -> bytes:
    """Change, insert, remove, repeat or cut a few bytes inside of a region."""
    changed = bytearray(content)
    for _ in range(noise.choice((1, 1, 1, 2, 4))):
        place = noise.choice(region)
        other = noise.choice(region)
        match noise.randrange(8):
            case 0:
                changed[place:place] = noise.randbytes(noise.randrange(1, 9))
            case 1:
                del changed[place : place + noise.randrange(1, 9)]
            case 2:
                changed[place:place] = changed[other : other + noise.randrange(1, 40)]
            case 3:
                changed[place : place + 4] = struct.pack("<i", noise.choice((-1, 2**31 - 1, 0, 2**20)))
            case 4:
                del changed[place:]
            case _:
                changed[place : place + 1] = noise.randbytes(1)
        if place >= len(changed):
            break
    return bytes(changed)


def swarm(folder: Path, name: str, content: bytes, region: range, count: int) -> dict[str, int]:
    """How many damaged files were refused and how many read."""
    noise = Random(11)
    outcomes = {"refused": 0, "read": 0}
    for _ in range(count):
        (folder / name).write_bytes(damaged(content, region, noise))
        message = outcome_of(folder)
        assert message.isprintable()
        assert len(message) < 1000
        outcomes["read" if message == "read" else "refused"] += 1
    return outcomes


def small_state() -> dict[str, torch.Tensor]:
    return {
        "a": torch.arange(6.0).reshape(2, 3),
        "t": torch.arange(6.0).reshape(2, 3).T,
        "b": torch.ones(3, dtype=torch.bfloat16),
        "f": torch.ones(2, dtype=torch.float8_e4m3fn),
    }


def saved(folder: Path, *, is_zip: bool) -> bytes:
    file = folder / "pytorch_model.bin"
    torch.save(small_state(), file, _use_new_zipfile_serialization=is_zip)
    return file.read_bytes()


@MANY
@pytest.mark.usefixtures("bounded_memory")
def test_safetensors(tmp_path: Path, count: int) -> None:
    whole = sound()
    outcomes = swarm(tmp_path, "model.safetensors", whole, range(len(whole)), count)
    assert min(outcomes.values()) > 10


@MANY
@pytest.mark.usefixtures("bounded_memory")
def test_the_stream_form(tmp_path: Path, count: int) -> None:
    whole = saved(tmp_path, is_zip=False)
    outcomes = swarm(tmp_path, "pytorch_model.bin", whole, range(len(whole)), count)
    assert min(outcomes.values()) > 10


@MANY
@pytest.mark.usefixtures("bounded_memory")
def test_the_pickle_in_a_zip(tmp_path: Path, count: int) -> None:
    whole = saved(tmp_path, is_zip=True)
    start = whole.index(b"\x80\x02}")
    outcomes = swarm(
        tmp_path, "pytorch_model.bin", whole, range(start, whole.index(b".", start + 300)), count
    )
    assert min(outcomes.values()) > 10


@MANY
@pytest.mark.usefixtures("bounded_memory")
def test_the_zips_directory(tmp_path: Path, count: int) -> None:
    whole = saved(tmp_path, is_zip=True)
    outcomes = swarm(
        tmp_path, "pytorch_model.bin", whole, range(whole.index(b"PK\x01\x02"), len(whole)), count
    )
    assert min(outcomes.values()) > 10


def opcode_soup(noise: Random) -> bytes:
    """A pickle of opcodes in any order, most of them such as a state dict has."""
    words: list[Callable[[], bytes]] = [
        lambda: noise.choice((b"(", b")", b"]", b"}", b"N", b"\x88", b"\x89", b"0", b"2")),
        lambda: noise.choice(
            (b"t", b"\x85", b"\x86", b"\x87", b"s", b"u", b"a", b"e", b"b", b"R", b"Q", b"\x94")
        ),
        lambda: noise.choice((b"q", b"h", b"K")) + bytes([noise.randrange(6)]),
        lambda: b"J" + noise.randbytes(4),
        lambda: b"\x8a\x09" + noise.randbytes(9),
        lambda: noise.choice((b"X\x01\x00\x00\x00w", b"X\x07\x00\x00\x00storage", b"X\x01\x00\x00\x000")),
        lambda: noise.choice((b"ctorch\nFloatStorage\n", b"ccollections\nOrderedDict\n", b"ctorch\nSize\n")),
        lambda: b"ctorch._utils\n_rebuild_" + noise.choice((b"tensor_v2\n", b"tensor_v3\n", b"parameter\n")),
        lambda: storage_and_tensor(noise),
    ]
    return b"}" + b"".join(noise.choice(words)() for _ in range(noise.randrange(40))) + b"."


NUMBERS = (
    b"K\x00", b"K\x01", b"K\x02", b"K\x04", b"J\xff\xff\xff\x7f", b"J\xff\xff\xff\xff", b"\x88", b"N",
    b"\x8a\x08" + bytes(6) + b"\x01\x00", b"\x8a\x09" + bytes(8) + b"\x01", b"\x8a\xff" + b"\x11" * 255,
)  # fmt: skip


def storage_and_tensor(noise: Random) -> bytes:
    """An entry of a state dict with numbers of any size in it."""
    ends = 4 if noise.random() < 0.7 else len(NUMBERS)
    count, offset, *sizes = (NUMBERS[noise.randrange(ends)] for _ in range(8))
    rank = noise.randrange(4)
    shape, strides = (b"(" + b"".join(part) + b"t" for part in (sizes[:rank], sizes[3 : 3 + rank]))
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000N" + count + b"tQ"
    name = b"X\x01\x00\x00\x00" + bytes([noise.randrange(97, 123)])
    return name + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"\x89NtRs"


@MANY
@pytest.mark.usefixtures("bounded_memory")
def test_opcodes_in_any_order(tmp_path: Path, count: int) -> None:
    noise = Random(5)
    messages: dict[str, int] = {}
    for _ in range(count):
        soup = opcode_soup(noise) if noise.random() < 0.5 else b"}" + storage_and_tensor(noise) + b"."
        with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
            archive.writestr("m/data.pkl", soup)
            archive.writestr("m/data/0", bytes(noise.choice((0, 4, 8, 16))))
        message = outcome_of(tmp_path)
        assert message.isprintable()
        assert len(message) < 1000
        messages[message] = messages.get(message, 0) + 1
    assert messages["read"] > 10
    assert len(messages) > 60


def test_pickles_own_loader_is_out_of_reach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("unpickled")

    saved(tmp_path, is_zip=False)
    for name in ("load", "loads", "Unpickler", "_Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    monkeypatch.setattr(torch, "load", never)
    assert outcome_of(tmp_path) == "read"

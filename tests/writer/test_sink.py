"""Files filled in any order: each byte in its place, heard in order, and no failure silent."""

from __future__ import annotations

import errno
import os
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from convert.writer import sink
from convert.writer.sink import BLOCK_BYTES, FILE_BLOCKS, MOST_BLOCKS, Drain, HeardSink

if TYPE_CHECKING:
    from pathlib import Path

# Not a multiple of a sector, and more blocks than a file has in memory.
SIZE_BYTES = (FILE_BLOCKS + 5) * BLOCK_BYTES + 12_345
PIECE_BYTES = 300_001
# The pieces of a file: each begins in the block in which another ends.
PIECES = [(at, min(PIECE_BYTES, SIZE_BYTES - at)) for at in range(0, SIZE_BYTES, PIECE_BYTES)]


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(1).randbytes(SIZE_BYTES)


def fill(
    path: Path, data: bytes, pieces: list[tuple[int, int]], threads: int, *, waits: bool = True
) -> bytes:
    """Write pieces of a file in this order; return what was heard, which is all of it where that is awaited.

    When all is written, what would have to be read is not heard any more.
    """
    heard = bytearray()
    with Drain() as drain:
        file = HeardSink(path, len(data), drain, pieces, heard.extend)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda piece: file.write(data[piece[0] : sum(piece)], piece[0]), pieces))
        while waits and len(heard) < len(data):
            drain.require_sound()
        drain.finish()
    return bytes(heard)


def test_what_is_written_in_order_is_heard_to_its_end(tmp_path: Path, data: bytes) -> None:
    assert fill(tmp_path / "file", data, PIECES, 3) == data
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("order", ["backwards", "any"])
def test_any_order_gives_the_same_file(tmp_path: Path, data: bytes, order: str) -> None:
    pieces = PIECES[::-1] if order == "backwards" else random.Random(2).sample(PIECES, len(PIECES))
    heard = fill(tmp_path / "file", data, pieces, 3, waits=False)
    assert (tmp_path / "file").read_bytes() == data
    assert data.startswith(heard)


def test_blocks_that_come_long_before_their_turn_are_read_back(tmp_path: Path, data: bytes) -> None:
    """The first piece comes last: others leave memory meanwhile, and all of it is heard at last."""
    assert fill(tmp_path / "file", data, [*PIECES[1:], PIECES[0]], 1) == data
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("cores", [1, 16])
def test_many_files_share_the_memory(tmp_path: Path, data: bytes, cores: int) -> None:
    with Drain(cores) as drain:
        heard = [bytearray() for _ in range(MOST_BLOCKS // FILE_BLOCKS + 2)]
        files = [
            HeardSink(tmp_path / str(number), SIZE_BYTES, drain, PIECES, each.extend)
            for number, each in enumerate(heard)
        ]
        for at, count in PIECES[::-1]:
            for file in files:
                file.write(data[at : at + count], at)
        drain.finish()
    assert all((tmp_path / str(number)).read_bytes() == data for number in range(len(heard)))
    assert all(data.startswith(each) for each in heard)


def test_files_are_heard_by_several_threads(tmp_path: Path, data: bytes) -> None:
    heard = [bytearray() for _ in range(5)]
    with Drain(16) as drain:
        files = [
            HeardSink(tmp_path / str(number), SIZE_BYTES, drain, PIECES, each.extend)
            for number, each in enumerate(heard)
        ]
        for at, count in PIECES:
            for file in files:
                file.write(data[at : at + count], at)
        while any(len(each) < SIZE_BYTES for each in heard):
            drain.require_sound()
        drain.finish()
    assert all(each == data for each in heard)


def test_what_nobody_writes_is_zero(tmp_path: Path) -> None:
    """Also in memory that another block was in before."""
    with Drain() as drain:
        first, second = (
            HeardSink(tmp_path / name, BLOCK_BYTES, drain, pieces, lambda _: None)
            for name, pieces in (("first", [(0, BLOCK_BYTES)]), ("second", [(0, 8), (4096, 8)]))
        )
        first.write(bytes([255]) * BLOCK_BYTES, 0)
        while not drain._free:
            drain.require_sound()
        second.write(bytes([1]) * 8, 0)
        second.write(bytes([2]) * 8, 4096)
        drain.finish()
    expected = (bytes([1]) * 8).ljust(4096, b"\0") + (bytes([2]) * 8).ljust(BLOCK_BYTES - 4096, b"\0")
    assert (tmp_path / "second").read_bytes() == expected


def test_files_that_hold_nothing_or_little_are_heard(tmp_path: Path) -> None:
    assert fill(tmp_path / "empty", b"", [], 1) == b""
    assert fill(tmp_path / "short", b"abc", [(0, 1), (1, 2)], 1) == b"abc"


def test_a_file_system_that_takes_no_direct_writes_gets_others(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct: list[int] = []
    write = sink.write

    def refuse(descriptor: int, each: bytes, offset_bytes: int) -> None:
        if os.get_blocking(descriptor) and is_direct(descriptor):
            direct.append(descriptor)
            raise OSError(errno.EINVAL, "Invalid argument")
        write(descriptor, each, offset_bytes)

    monkeypatch.setattr(sink, "write", refuse)
    assert fill(tmp_path / "file", data, PIECES, 2) == data
    assert (tmp_path / "file").read_bytes() == data
    assert len(direct) == (1 if hasattr(os, "O_DIRECT") else 0)


def is_direct(descriptor: int) -> bool:
    import fcntl  # noqa: PLC0415 - not on every system

    return bool(fcntl.fcntl(descriptor, fcntl.F_GETFL) & getattr(os, "O_DIRECT", 0))


def test_a_disk_that_is_full_is_said_to_who_writes(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sink, "write", full)
    with pytest.raises(OSError, match="No space left"):
        fill(tmp_path / "file", data, PIECES, 2)


def test_what_hears_may_fail(tmp_path: Path, data: bytes) -> None:
    def fails(_: memoryview) -> None:
        raise RuntimeError("no more")

    with Drain() as drain:
        file = HeardSink(tmp_path / "file", SIZE_BYTES, drain, PIECES, fails)
        file.write(data[:BLOCK_BYTES], 0)
        with pytest.raises(RuntimeError, match="no more"):
            write_for_ever(file, data)


def test_bytes_that_are_planned_and_missing_are_said(tmp_path: Path, data: bytes) -> None:
    with Drain() as drain:
        file = HeardSink(tmp_path / "file", SIZE_BYTES, drain, PIECES, lambda _: None)
        file.write(data[1:], 1)
        with pytest.raises(ValueError, match="some planned bytes were not written"):
            drain.finish()


def test_a_file_that_is_cut_short_meanwhile_is_named(tmp_path: Path, data: bytes) -> None:
    path, heard = tmp_path / "file", bytearray()
    with Drain() as drain:
        file = HeardSink(path, SIZE_BYTES, drain, PIECES, heard.extend)
        other = HeardSink(tmp_path / "other", SIZE_BYTES, drain, PIECES, lambda _: None)
        for at, count in [*PIECES[1:], PIECES[0]]:
            if not at:
                os.truncate(path, 1)
            file.write(data[at : at + count], at)
        with pytest.raises(Failure, match="file: was cut short"):
            write_for_ever(other, data)


def write_for_ever(file: HeardSink, data: bytes) -> None:
    """Write the last byte again and again, until a failure elsewhere is met."""
    while True:
        file.write(data[-1:], SIZE_BYTES - 1)

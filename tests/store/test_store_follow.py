"""Digests of files that are still being written: right whatever comes in which order, and never silent."""

import hashlib
import os
import threading
from pathlib import Path

import pytest

from convert.errors import Failure
from convert.store import Follower
from convert.store.digest import digest_files

STEP = 1000


def wait_for_its_end() -> None:
    """Wait until the thread has met what ends it."""
    (thread,) = (each for each in threading.enumerate() if each.name == "digest")
    thread.join(30)
    assert not thread.is_alive()


def test_a_digest_begun_while_files_are_written_is_that_of_the_whole_file(tmp_path: Path) -> None:
    contents = {tmp_path / str(size): os.urandom(size) for size in (0, 999, 1000, 123_456, 3 << 20)}
    with Follower(STEP) as follower:
        reached = {path: follower.watch(path) for path in contents}
        for share in (3, 2, 1):
            for path, data in contents.items():
                size = path.stat().st_size if path.exists() else 0
                with path.open("ab") as stream:
                    stream.write(data[size : len(data) // share])
                reached[path](len(data) // share)
        begun = follower.begun()
    seen: list[int] = []
    found = digest_files(contents, begun=begun, progress=seen.append)
    assert {path: each.sha256 for path, each in found.items()} == {
        path: hashlib.sha256(data).hexdigest() for path, data in contents.items()
    }
    assert sum(seen) == sum(map(len, contents.values()))


def test_what_goes_wrong_while_following_is_raised(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(STEP // 2))
    with Follower(STEP) as follower:
        follower.watch(path)(STEP)  # more than there is
        wait_for_its_end()
        with pytest.raises(Failure, match="cut short"):
            follower.begun()


def test_a_disk_that_fails_under_the_follower_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(STEP))

    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with Follower(STEP, STEP) as follower:
        follower.watch(path)(STEP)
        wait_for_its_end()
        with pytest.raises(Failure, match="the disk reports an error"):
            follower.begun()

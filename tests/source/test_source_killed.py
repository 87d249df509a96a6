"""Processes that die, collide, are interrupted, or run out of disk."""

import errno
import io
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from convert.errors import Failure
from convert.source import Hub, fetch, fetch_small, list_source
from tests.hub.repo import sha256
from tests.hub.server import Fault, HubServer
from tests.source.model import MODEL, NEEDED, WEIGHTS, assert_right, blob, noise, parts

BODY = "model.safetensors"
ROOT = Path(__file__).parents[2]


@contextmanager
def fetching(server: HubServer, hub: Hub) -> Iterator[subprocess.Popen[str]]:
    """A process that fetches the model into the cache of `hub`."""
    script = Path(__file__).with_name("fetching.py")
    command = [sys.executable, str(script), server.endpoint, str(hub.cache.parent), MODEL]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait a little for something that is about to be."""
    deadline_s = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


def part_bytes(hub: Hub) -> int:
    """How much of the weights has come."""
    path = blob(hub, BODY, WEIGHTS, ".incomplete")
    return path.stat().st_size if path.exists() else 0


def test_a_killed_download_is_resumed(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("stall", BODY, after_bytes=150_000, pause_s=5))
    with fetching(server, hub) as process:
        wait_until(lambda: part_bytes(hub) == 150_000)
        process.send_signal(signal.SIGKILL)
        process.wait()
    server.log.clear()
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)
    (again,) = server.bodies(BODY)
    assert again.range == "bytes=150000-"
    assert again.sent_bytes == len(WEIGHTS) - 150_000
    assert not parts(hub)


def test_a_part_that_is_not_a_beginning_is_fetched_anew(server: HubServer, hub: Hub) -> None:
    fetch_small(list_source(MODEL, hub=hub), hub=hub)
    blob(hub, BODY, WEIGHTS, ".incomplete").write_bytes(noise(1000, 99))
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)
    assert [body.range for body in server.bodies(BODY)] == ["bytes=1000-", None]


@pytest.mark.parametrize("size_bytes", [len(WEIGHTS), len(WEIGHTS) + 1])
def test_a_part_that_is_complete_or_too_long(server: HubServer, hub: Hub, size_bytes: int) -> None:
    fetch_small(list_source(MODEL, hub=hub), hub=hub)
    blob(hub, BODY, WEIGHTS, ".incomplete").write_bytes((WEIGHTS + b"!")[:size_bytes])
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)
    assert len(server.bodies(BODY)) == (0 if size_bytes == len(WEIGHTS) else 1)


def test_killed_anywhere_it_ends_well(server: HubServer, hub: Hub) -> None:
    whens = random.Random(7)
    for _ in range(4):
        server.faults = [Fault("slow", BODY, pause_s=0.01)]
        with fetching(server, hub) as process:
            wait_until(lambda: part_bytes(hub) > 0 or process.poll() is not None)
            time.sleep(whens.uniform(0, 0.1))
            process.send_signal(signal.SIGKILL)
            process.wait()
        for path in hub.cache.rglob("*.safetensors"):
            assert path.read_bytes() == WEIGHTS
    server.faults.clear()
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)


def test_two_processes_download_once(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("slow", BODY, pause_s=0.03))
    with fetching(server, hub) as one, fetching(server, hub) as two:
        for process in (one, two):
            out, err = process.communicate(timeout=60)
            assert (process.returncode, out.strip()) == (0, sha256(WEIGHTS)), err
    assert sum(body.sent_bytes for body in server.bodies(BODY)) == len(WEIGHTS)


def test_one_process_takes_over_from_another_that_dies(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("stall", BODY, after_bytes=150_000, pause_s=5))
    with fetching(server, hub) as one:
        wait_until(lambda: part_bytes(hub) == 150_000)
        with fetching(server, hub) as two:
            time.sleep(0.3)
            one.kill()
            out, err = two.communicate(timeout=60)
            assert out.strip() == sha256(WEIGHTS), err
    assert [body.range for body in server.bodies(BODY)] == [None, "bytes=150000-"]


def test_interrupted_it_stops_at_once_and_leaves_a_part(server: HubServer, hub: Hub) -> None:
    server.faults.append(Fault("stall", BODY, after_bytes=150_000, pause_s=60))
    with fetching(server, hub) as process:
        wait_until(lambda: part_bytes(hub) == 150_000)
        began_s = time.monotonic()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert time.monotonic() - began_s < 50
    assert "KeyboardInterrupt" in err
    assert parts(hub) == [blob(hub, BODY, WEIGHTS, ".incomplete").name]


def test_a_disk_too_small_is_seen_before(
    server: HubServer, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = list_source(MODEL, hub=hub)
    small = type(shutil.disk_usage("/"))(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: small)
    with pytest.raises(Failure, match=r"to download, 1\.00 kB free"):
        fetch(listing, hub=hub)
    assert not any("/resolve/" in exchange.path for exchange in server.log)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> type["Disk"]:
    whole: Any = Path.open

    def open_on_disk(path: Path, mode: str = "r", *rest: Any, **options: Any) -> Any:
        return Disk(path, mode) if mode == "ab" else whole(path, mode, *rest, **options)

    monkeypatch.setattr(Path, "open", open_on_disk)
    monkeypatch.setattr(Disk, "free_bytes", 10**9)
    return Disk


class Disk(io.FileIO):
    """A file on a disk that takes 1,000 bytes at a time, until it is full."""

    free_bytes = 0

    def write(self, view: Any) -> int:
        if not self.free_bytes:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(view[: min(1000, self.free_bytes)])
        type(self).free_bytes -= taken
        return taken


def test_a_write_that_is_cut_short_is_continued(hub: Hub, disk: type[Disk]) -> None:
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)
    assert disk.free_bytes < 10**9


def test_a_disk_that_fills_keeps_what_came(server: HubServer, hub: Hub, disk: type[Disk]) -> None:
    fetch_small(list_source(MODEL, hub=hub), hub=hub)
    disk.free_bytes = 123_456
    with pytest.raises(Failure, match=r"acme/tiny/model\.safetensors: no space left in") as caught:
        fetch(list_source(MODEL, hub=hub), hub=hub)
    assert "resumes" in caught.value.hint
    disk.free_bytes = 10**9
    assert_right(fetch(list_source(MODEL, hub=hub), hub=hub), NEEDED)
    assert server.bodies(BODY)[-1].range == "bytes=123456-"


def test_a_cache_that_cannot_be_made(server: HubServer, hub: Hub) -> None:
    hub.cache.write_bytes(b"a file")
    with pytest.raises(Failure, match="cannot be used: Not a directory"):
        fetch(list_source(MODEL, hub=hub), hub=hub)
    assert server.log

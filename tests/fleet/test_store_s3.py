"""A store on S3 (moto's, on loopback) behind a network that fails: the bytes of one machine, or nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.cli import app
from convert.errors import Exit
from convert.store import Remote, Store
from tests import tiny
from tests.fleet.faulty import FAULTS, Proxy, proxied
from tests.hf import describing

if TYPE_CHECKING:
    from collections.abc import Iterator

s3fs = pytest.importorskip("s3fs")
moto_server = pytest.importorskip("moto.server")
pytestmark = [
    pytest.mark.apart,
    pytest.mark.timeout(600),
    # What a client leaves open after a connection that was reset is the client's.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
ADDRESS = "s3://models/shared"
STRETCH_BYTES = 100_000
TARGETS = ("gguf-Q8_0", "gguf-F16", "hf")
RECIPE = "model: source\ntargets: {gguf: {quants: [Q8_0, F16]}, hf: {}}\n"


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    """Moto's S3."""
    found = moto_server.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    found.start()
    yield found.get_host_and_port()[1]
    found.stop()


@pytest.fixture
def proxy(server: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A bucket, and the way to it."""
    with proxied(server) as found:
        for name, value in {
            "AWS_ENDPOINT_URL": found.address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        if files.exists("models"):
            files.rm("models", recursive=True)
        files.mkdir("models")
        yield found
        found.fault = lambda *_: None
        s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    describing.make(tmp_path / "source", tiny.Recipe("qwen2", shards=2))
    (tmp_path / "m.yaml").write_text(RECIPE, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convert.store.upload._STRETCH_BYTES", STRETCH_BYTES)
    monkeypatch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", STRETCH_BYTES)
    assert ran("convert", "m.yaml", "--out", "whole") == Exit.DONE
    return tmp_path


def ran(*words: str) -> int:
    return app.run([*words, "--quiet", "--offline"])


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def until_done(*words: str) -> int:
    """Run a command again until it has gone through, as a fleet does; say how often that took."""
    for number in range(1, 4):
        if ran(*words, "--store", ADDRESS) == Exit.DONE:
            return number
    raise AssertionError(words)


def pulled(home: Path) -> dict[str, bytes]:
    remote, store = Remote.at(ADDRESS), Store(home / "pulled")
    for target in TARGETS:
        assert remote.pull(store, "m", target)
    return contents(home / "pulled" / "m")


def uploads() -> list[Any]:
    files = Remote.at(ADDRESS).place.files
    found: list[Any] = files.call_s3("list_multipart_uploads", Bucket="models").get("Uploads", [])
    return found


def test_parts_of_uploads_make_the_bytes_of_one_machine(home: Path, proxy: Proxy) -> None:
    for number in (2, 3, 1):
        assert until_done("convert", "m.yaml", "--part", f"{number}/3", "--out", f"node{number}") == 1
    assert len(uploads()) == 3
    assert Remote.at(ADDRESS).manifest("m", "hf") is None
    assert until_done("assemble", "m.yaml", "--out", "last") == 1
    assert pulled(home) == contents(home / "whole" / "m")
    assert not uploads()
    assert proxy.count


@pytest.mark.parametrize("kind", FAULTS)
def test_whatever_the_network_does_the_bytes_are_right(home: Path, proxy: Proxy, kind: str) -> None:
    proxy.fault = lambda count, *_: kind if count % 4 == 0 else None
    for number in (1, 2):
        until_done("convert", "m.yaml", "--part", f"{number}/2")
    until_done("assemble", "m.yaml")
    assert set(proxy.met) == {kind}
    proxy.fault = lambda *_: None
    assert pulled(home) == contents(home / "whole" / "m")
    assert not uploads()


def test_a_completion_whose_answer_is_lost_was_one(home: Path, proxy: Proxy) -> None:
    for number in (1, 2):
        assert until_done("convert", "m.yaml", "--part", f"{number}/2") == 1

    def fault(_: int, method: str, path: str) -> str | None:
        return "lost" if method == "POST" and "uploadId=" in path else None

    proxy.fault = fault
    assert until_done("assemble", "m.yaml") == 1
    assert len(proxy.met) >= 3
    assert pulled(home) == contents(home / "whole" / "m")


@pytest.mark.parametrize("at", [3, 8, 13, 18, 23])
def test_a_machine_that_is_killed_leaves_nothing_that_shows(home: Path, proxy: Proxy, at: int) -> None:
    """Kill the process at one of its requests, in whatever it does; the same commands go on."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)])}
    began = proxy.count
    for words in (["convert", "--part", "1/2"], ["convert", "--part", "2/2"], ["assemble"]):
        verb, *more = words
        command = [sys.executable, "-m", "convert.cli", verb, "m.yaml", *more, "--store", ADDRESS]
        child = subprocess.Popen([*command, "--quiet", "--offline"], env=environment)

        def fault(count: int, *_: str, child: subprocess.Popen[bytes] = child) -> str | None:
            if count == began + at:
                child.send_signal(signal.SIGKILL)
                return "lost"
            return None

        proxy.fault = fault
        is_killed = child.wait() == -signal.SIGKILL
        proxy.fault = lambda *_: None
        if is_killed:
            for target in TARGETS:
                found = Remote.at(ADDRESS).manifest("m", target)
                assert found is None or Remote.at(ADDRESS).holds("m", target, found[1].key)
            subprocess.run([*command, "--quiet", "--offline"], env=environment, check=True)
    assert pulled(home) == contents(home / "whole" / "m")
    assert until_done("convert", "m.yaml") == 1
    assert not uploads()

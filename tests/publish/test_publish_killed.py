"""A publication that dies before or after any of its requests: the Hub shows the old state or the new."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import pytest

from tests.hub.server import HubServer, Murder
from tests.publish.bundles import bundle
from tests.publish.commanding import REPO as BESIDE
from tests.publish.commanding import TARGETS
from tests.publish.conftest import TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.publish.bundle import Bundle
    from tests.hub.repo import Repo
    from tests.publish.commanding import Run

REPO = "ann/tiny-GGUF"
SETTINGS = "{tag: v1, collection: Small ones}"
SIZE_BYTES = 1_300_000
ROOT = Path(__file__).parents[2]


class Publisher:
    """The script beside this file, and the Hub that it publishes to."""

    def __init__(self, server: HubServer, process: subprocess.Popen[str]) -> None:
        self.server = server
        self._in, self._out = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

    def run(self, at: int | None = None, *, is_after: bool = False) -> int:
        """Publish, and die at that request; the exit status."""
        self._tell("fork")
        pid = int(self._out.readline())
        self.server.murder = None if at is None else Murder(pid, at, is_after)
        self._tell("go")
        return int(self._out.readline())

    def _tell(self, word: str) -> None:
        self._in.write(f"{word}\n")
        self._in.flush()


@contextmanager
def publisher(server: HubServer, *words: str) -> Iterator[Publisher]:
    """One that publishes the bundle; or with `words` what they say to the program, here."""
    script = [sys.executable, str(Path(__file__).with_name("publishing.py"))]
    given = ["command", *words] if words else [server.endpoint, TOKEN, SETTINGS, str(SIZE_BYTES)]
    with subprocess.Popen(
        [*script, *given], env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield Publisher(server, process)
        finally:
            process.kill()


@pytest.fixture
def parts(server: HubServer) -> HubServer:
    """A Hub that takes large files in parts."""
    server.part_bytes = 700_000
    return server


def shown(repo: Repo, ref: str = "main") -> dict[str, bytes]:
    found = repo.commits[str(repo.find(ref))]
    return {path: content for path, content in found.items() if path != ".gitattributes"}


def assert_new(server: HubServer, what: Bundle, old: Repo | None) -> None:
    """The bundle is there, by one commit upon the old state, tagged and collected once."""
    repo = server.repos[REPO]
    history = repo.history()
    before = len(old.history()) if old else 1  # the Hub's own first commit
    assert len(history) == before + 1
    expected = {file.path: file.read() for file in what.files}
    assert shown(repo) == (shown(old) if old else {}) | expected
    assert repo.tags == {"v1": history[0]}
    (collection,) = server.collections.values()
    assert [item["id"] for item in collection["items"]] == [REPO]


def sweep(server: HubServer, what: Bundle, old: Repo | None, points: list[int] | None = None) -> int:
    """Kill at every request, both ways, and publish again; how many places that made."""
    with publisher(server) as publishing:
        deaths = 0
        for is_after in (False, True):
            at = 0
            for at in points or range(1000):
                server.collections.clear()
                server.repos = {REPO: copy.deepcopy(old)} if old else {}
                status = publishing.run(at, is_after=is_after)
                if status == 0:
                    break
                assert status == -9
                deaths += 1
                repo = server.repos.get(REPO)
                old_state = shown(old) if old else {}
                new_state = old_state | {file.path: file.read() for file in what.files}
                assert repo is None or shown(repo) in (old_state, new_state), f"request {at}"
                if repo is not None and repo.tags:
                    assert shown(repo, "v1") == new_state
                assert publishing.run() == 0
                assert_new(server, what, old)
    return deaths


def an_old_one(tmp_path: Path, server: HubServer) -> Repo:
    """What an earlier version left there, and what its owner added by hand."""
    older = bundle(tmp_path / "older", SETTINGS, size_bytes=SIZE_BYTES - 1)
    repo = server.add(REPO, {file.path: file.read() for file in older.files} | {"notes.txt": b"mine"})
    repo.is_private = True
    return copy.deepcopy(repo)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_at_any_request_a_new_repo_is_whole_or_empty(parts: HubServer, tmp_path: Path) -> None:
    assert sweep(parts, bundle(tmp_path, SETTINGS, size_bytes=SIZE_BYTES), None) > 40


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_at_any_request_a_repo_is_the_old_one_or_the_new(parts: HubServer, tmp_path: Path) -> None:
    old = an_old_one(tmp_path, parts)
    assert sweep(parts, bundle(tmp_path / "new", SETTINGS, size_bytes=SIZE_BYTES), old) > 30


@pytest.mark.slow
def test_killed_around_the_commit(parts: HubServer, tmp_path: Path) -> None:
    what = bundle(tmp_path, SETTINGS, size_bytes=SIZE_BYTES)
    with publisher(parts) as publishing:
        assert publishing.run() == 0
    requests = [(exchange.method, exchange.path) for exchange in parts.log]
    at = requests.index(("POST", f"/api/models/{REPO}/commit/main"))
    assert sweep(parts, what, None, [at]) == 2


@pytest.mark.slow
def test_two_at_once_make_one_commit(parts: HubServer, tmp_path: Path) -> None:
    what = bundle(tmp_path, SETTINGS, size_bytes=SIZE_BYTES)
    with publisher(parts) as one, publisher(parts) as other, ThreadPoolExecutor(2) as both:
        assert list(both.map(lambda each: each.run(), (one, other))) == [0, 0]
    assert_new(parts, what, None)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_killed_after_any_request_one_artifact_comes_beside_the_other(run: Run, server: HubServer) -> None:
    """By --only, into a repo that stands: what the rerun finds there makes the same card of it."""
    first, second = TARGETS
    assert run("publish", "recipe.yaml", "--only", first).code == 0
    old = copy.deepcopy(server.repos[BESIDE])
    assert run("publish", "recipe.yaml", "--only", second).code == 0
    new = shown(server.repos[BESIDE])
    assert b"(Tiny-0.1B-Q8_0.gguf)" in new["README.md"]
    deaths = 0
    with publisher(server, "publish", "recipe.yaml", "--only", second, "--quiet") as publishing:
        # Before a request the Hub is as it was after the last; the sweeps above, which are quicker, do both.
        for at in range(1000):
            server.repos[BESIDE] = copy.deepcopy(old)
            status = publishing.run(at, is_after=True)
            if status == 0:
                break
            assert status == -9
            deaths += 1
            assert shown(server.repos[BESIDE]) in (shown(old), new), f"request {at}"
            assert publishing.run() == 0
            assert shown(server.repos[BESIDE]) == new
            assert len(server.repos[BESIDE].history()) == len(old.history()) + 1
    assert deaths > 20

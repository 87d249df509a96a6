"""A Hub on its bad days: right bytes, or one clear line; and the next run puts it right with one commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.errors import Exit, Failure
from convert.progress import Silent
from convert.publish.destinations.hub import HubDestination
from tests.hub.server import Fault, HubServer
from tests.publish.bundles import bundle
from tests.publish.conftest import TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from convert.publish.bundle import Bundle
    from convert.source import Hub

REPO = "ann/tiny-GGUF"
SETTINGS = "{tag: v1, branch: stable, collection: Small ones}"
# Every kind of request that a publication makes, by a part of its path.
CALLS = {
    "whoami": ("GET", "/whoami-v2"),
    "refs": ("GET", "/refs"),
    "info": ("GET", f"/api/models/{REPO}"),
    "tree": ("GET", "/tree/"),
    "create": ("POST", "/repos/create"),
    "branch": ("POST", "/branch/"),
    "card": ("POST", "/validate-yaml"),
    "preupload": ("POST", "/preupload/"),
    "batch": ("POST", "/objects/batch"),
    "upload": ("PUT", "/lfs/"),
    "part": ("PUT", "/lfs-part/"),
    "complete": ("POST", "/lfs-complete/"),
    "verify": ("POST", "/lfs-verify/"),
    "commit": ("POST", "/commit/"),
    "tag": ("POST", "/tag/"),
    "collection": ("POST", "/api/collections"),
    "item": ("POST", "/items"),
    "read back": ("GET", "/resolve/"),
}
FAULTS = {
    **{str(status): Fault("status", status=status) for status in (400, 401, 403, 404, 409, 412, 500, 503)},
    "429": Fault("status", status=429, headers={"Retry-After": "1"}),
    "429 for an hour": Fault("status", status=429, headers={"Retry-After": "3600"}),
    "reset": Fault("reset"),
    "lost": Fault("lost"),
    "cut": Fault("cut", after_bytes=1),
    "slow": Fault("slow", pause_s=0.01),
    "stall": Fault("stall", after_bytes=1, pause_s=1.2),
    "slow upload": Fault("slow-upload", pause_s=0.001),
    "cut upload": Fault("cut-upload", after_bytes=10),
}
RARER = ("reset", "412", "403", "429 for an hour")
# What a client rides out, once.
PASSING = ("429", "500", "503", "reset", "lost", "cut", "slow", "slow upload", "cut upload")


@pytest.fixture
def what(tmp_path: Path) -> Bundle:
    return bundle(tmp_path / "shelf", SETTINGS)


def run(hub: Hub, what: Bundle, answer_s: float = 20) -> None:
    with HubDestination(hub, answer_s) as place:
        sent = place.send(what, place.survey(what), Silent())
        place.read_back(what, sent, Silent())


def failure_of(hub: Hub, what: Bundle, answer_s: float = 20) -> Failure | None:
    try:
        run(hub, what, answer_s)
    except Failure as failure:
        return failure
    return None


def arm(server: HubServer, call: str, fault: str, times: int) -> None:
    method, path = CALLS[call]
    given = FAULTS[fault]
    server.faults = [
        Fault(given.kind, path, times, method, given.status, given.headers, given.after_bytes, given.pause_s)
    ]


def assert_new(server: HubServer, what: Bundle, commits: int = 1) -> None:
    repo = server.repos[REPO]
    history = repo.history("stable")
    expected = {".gitattributes", *(file.path for file in what.files)}
    assert set(repo.commits[history[0]]) == expected
    assert all(repo.commits[history[0]][file.path] == file.read() for file in what.files)
    assert len(history) == 1 + commits
    assert repo.history("main") == history[-1:]
    assert repo.tags == {"v1": history[0]}
    assert [len(each["items"]) for each in server.collections.values()] == [1]


def assert_old_or_new(server: HubServer, what: Bundle) -> None:
    repo = server.repos.get(REPO)
    if repo is not None and len(repo.history("stable")) > 1:
        assert all(repo.commits[repo.refs["stable"]].get(file.path) == file.read() for file in what.files)
        assert len(repo.history("stable")) == 2


def assert_clear(failure: Failure) -> None:
    assert failure.exit_code == Exit.FAILED
    for problem in failure.problems:
        assert "\n" not in problem.message + problem.hint
        assert problem.hint
        assert TOKEN not in problem.message + problem.hint
        assert "s3cret" not in problem.message + problem.hint


def meets(server: HubServer, hub: Hub, what: Bundle, call: str, fault: str, *, times: int = 1) -> bool:
    """Publish while that goes wrong, then again when it does not; whether the first did it."""
    server.repos.clear()
    server.collections.clear()
    arm(server, call, fault, times)
    failure = failure_of(hub, what, 0.8 if fault == "stall" else 20)  # a busy machine is no silent server
    if failure is not None:
        assert_clear(failure)
    assert server.faults[0].times < times, "nothing met the fault"
    assert_old_or_new(server, what)
    if failure is None:
        assert_new(server, what)
    server.faults.clear()
    run(hub, what)
    assert_new(server, what)
    return failure is None


@pytest.mark.parametrize(
    "fault", ["500", "lost", *(pytest.param(each, marks=pytest.mark.slow) for each in RARER)]
)
@pytest.mark.parametrize("call", ["commit", pytest.param("upload", marks=pytest.mark.slow)])
def test_the_requests_that_carry_everything(
    server: HubServer, hub: Hub, what: Bundle, call: str, fault: str
) -> None:
    assert meets(server, hub, what, call, fault) is (fault in PASSING)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("call", "fault"),
    [
        # Of each request each fourth fault, beginning with another; `make test-exhaustive` runs all.
        pytest.param(call, fault, marks=() if (first + second) % 4 == 0 else pytest.mark.exhaustive)
        for first, call in enumerate(CALLS)
        for second, fault in enumerate(FAULTS)
    ],
)
def test_every_request_on_every_bad_day(
    server: HubServer, hub: Hub, what: Bundle, call: str, fault: str
) -> None:
    if call in ("part", "complete"):
        server.part_bytes = 25_000
    if call in ("whoami", "refs", "info", "tree", "read back") and "upload" in fault:
        pytest.skip("nothing is uploaded by it")
    went_well = meets(server, hub, what, call, fault)
    if fault in PASSING:
        assert went_well
    for part in server.log:
        assert part.path.startswith("/lfs") <= (part.authorization is None or "verify" in part.path)
    meets(server, hub, what, call, fault, times=1000)

"""A publication met by a fault at any system call: each place shows the old release or the new."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.cli.failure import report as explain
from convert.publish.destinations.objects import ObjectDestination
from convert.source import Hub
from tests.destinations import bundles
from tests.destinations.bundles import FILES, NEXT, bundle_of, tree
from tests.destinations.registry_server import RegistryServer
from tests.faults.forking import forked
from tests.faults.injecting import FAULTS, sweep, tracing
from tests.publish.commanding import REPO, TARGETS

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Iterator

    from tests.hub.server import HubServer

LINE = ("publish", "recipe.yaml", "--quiet")
NAME = REPO.partition("/")[2]


class Place:
    """A place to publish to, whose state can be seen, kept and put back."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def seen(self) -> dict[str, bytes] | None:
        """What a person sees there."""
        raise NotImplementedError

    def kept(self) -> Callable[[], None]:
        """Keep the state; what is returned puts it back."""
        raise NotImplementedError

    def left(self) -> None:
        """Fail where more is left than the release."""


class Folder(Place):
    """A folder on this machine."""

    def __init__(self, root: Path) -> None:
        super().__init__("--to", str(root / "shelf"))
        self.shelf = root / "shelf"

    def seen(self) -> dict[str, bytes] | None:
        return tree(self.shelf / NAME) or None

    def kept(self) -> Callable[[], None]:
        old = self.shelf.with_name("old")
        shutil.copytree(self.shelf, old)

        def put_back() -> None:
            shutil.rmtree(self.shelf)
            shutil.copytree(old, self.shelf)

        return put_back

    def left(self) -> None:
        assert [each.name for each in (self.shelf / ".publishing").iterdir()] == [f"{NAME}.lock"]


class OnHub(Place):
    """The Hub on loopback."""

    def __init__(self, server: HubServer) -> None:
        super().__init__()
        self.server = server

    def seen(self) -> dict[str, bytes] | None:
        repo = self.server.repos.get(REPO)
        return None if repo is None else repo.commits[str(repo.find("main"))]

    def kept(self) -> Callable[[], None]:
        old = copy.deepcopy(self.server.repos[REPO])

        def put_back() -> None:
            self.server.repos[REPO] = copy.deepcopy(old)

        return put_back


class InRegistry(Place):
    """A registry on loopback."""

    def __init__(self, server: RegistryServer) -> None:
        super().__init__("--to", f"oci://{server.host}/models")
        self.server = server

    def seen(self) -> dict[str, bytes] | None:
        return self.server.pulled(f"models/{NAME.lower()}")

    def kept(self) -> Callable[[], None]:
        names = ("stored", "manifests", "tags")
        old = {name: copy.deepcopy(getattr(self.server, name)) for name in names}

        def put_back() -> None:
            for name in names:
                setattr(self.server, name, copy.deepcopy(old[name]))

        return put_back


@pytest.fixture
def places(tmp_path: Path, server: HubServer) -> Iterator[dict[str, Place]]:
    with RegistryServer() as registry:
        yield {"folder": Folder(tmp_path), "hub": OnHub(server), "registry": InRegistry(registry)}


def publishing(home: Path, place: Place) -> Counter[str]:
    """Sweep the publication of two artifacts where one of them was published before."""
    tracing(home)
    with forked(home, *LINE, *place.words, "--only", TARGETS[0]):
        old = place.seen()
        put_back = place.kept()
    with forked(home, *LINE, *place.words) as run:
        new = place.seen()
        assert old
        assert new
        assert old.keys() < new.keys()
        artifacts = tree(home / "artifacts")

        def check() -> str:
            found = place.seen()
            assert found in (old, new)
            return "new" if found == new else "old"

        def left() -> None:
            assert tree(home / "artifacts") == artifacts
            place.left()

        return sweep(run, put_back, check, left)


@pytest.mark.exhaustive
@pytest.mark.parametrize("where", ["folder", "hub", "registry"])
def test_a_publication_met_by_every_fault_at_every_call(
    home: Path, places: dict[str, Place], where: str
) -> None:
    counts = publishing(home, places[where])
    assert sum(counts[fault] for fault in FAULTS) > 20
    print(where, dict(counts))


def to_objects(words: list[str]) -> int:
    """Publish the second of two bundles to an object store on this disk: what the script runs."""
    folder, address = words
    try:
        place = ObjectDestination.at(address, Hub.from_environment())
        bundles.publish(place, bundle_of(Path(folder), NEXT))
    except Exception as error:  # noqa: BLE001 - as the command line does with any
        return explain(error)
    return 0


@pytest.mark.exhaustive
def test_an_object_store_met_by_every_fault_at_every_call(tmp_path: Path) -> None:
    """By the file system of fsspec that has a disk here: readers follow the list, which is written last."""
    tracing(tmp_path)
    root = tmp_path / "out"
    address = f"local://{root}"
    bundles.publish(ObjectDestination.at(address, Hub.from_environment()), bundle_of(tmp_path / "a", FILES))
    shutil.copytree(root, tmp_path / "old")

    def put_back() -> None:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "old", root)

    def check() -> str:
        (mark,) = root.glob("*/published.json")
        listed = mark.read_bytes()
        assert listed.endswith(b"}\n")
        version = json.loads(listed)["version"]
        found = tree(mark.parent / version)
        assert found in (dict(FILES), dict(NEXT))
        return "new" if found == NEXT else "old"

    act = "tests.publish.test_publish_injected:to_objects"
    with forked(tmp_path, str(tmp_path / "b"), address, act=act) as run:
        counts = sweep(run, put_back, check, lambda: None)
    assert sum(counts[fault] for fault in FAULTS) > 20
    print("objects", dict(counts))

"""A destination is one file: the Hub is found as all others are, and so is one from another folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.errors import UsageFailure
from convert.publish import destinations
from convert.publish.destination import ANY_SCHEME, LOCAL_USER
from convert.publish.destinations import find, registry
from convert.publish.destinations.folder import FolderDestination
from convert.publish.destinations.hub import HubDestination
from tests.destinations.bundles import FILES, bundle_of, publish
from tests.publish.commanding import REPO

if TYPE_CHECKING:
    from tests.hub.server import HubServer
    from tests.publish.commanding import Run

# As somebody would write it: all files of a repo in one zip archive, replaced in one step.
ARCHIVE = """
import hashlib, os, zipfile
from pathlib import Path
from convert.publish.destination import Contents, Destination, Moved, Sent
from convert.publish.listing import differs

class ArchiveDestination(Destination):
    SCHEMES = ("archive",)

    def __init__(self, folder):
        self.folder = folder

    @classmethod
    def at(cls, address, hub):
        return cls(Path(address.partition("://")[2]))

    def user(self):
        return "archivist"

    def manner(self, bundle):
        return "in one archive"

    def path(self, repo):
        return self.folder / f"{repo.rpartition('/')[2]}.zip"

    def look(self, repo, revision):
        path = self.path(repo)
        if not path.is_file():
            return Contents(None)
        with zipfile.ZipFile(path) as archive:
            digests = {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
        head = hashlib.sha256(path.read_bytes()).hexdigest()
        return Contents(head, frozenset(digests), lambda file: digests.get(file.path) == file.sha256, False)

    def survey(self, bundle):
        return self.look(bundle.repo, bundle.revision).survey(str(self.path(bundle.repo)), bundle)

    def send(self, bundle, survey, progress):
        now = self.survey(bundle)
        if now.head != survey.head:
            raise Moved(survey.place)
        if not now.missing:
            return Sent(survey.place, now.head, 0, is_new=False)
        path = self.path(bundle.repo)
        path.parent.mkdir(parents=True, exist_ok=True)
        with progress.stage("pack", bundle.size_bytes) as advance:
            with zipfile.ZipFile(path.with_suffix(".new"), "w") as archive:
                for file in bundle.files:
                    archive.writestr(file.path, file.read())
                    advance(file.size_bytes)
        os.replace(path.with_suffix(".new"), path)
        return Sent(survey.place, self.look(bundle.repo, "").head, bundle.size_bytes, is_new=True)

    def read_back(self, bundle, sent, progress):
        for file in self.survey(bundle).missing:
            raise differs(f"{sent.place}/{file.path}", "publish again")

DESTINATION = ArchiveDestination
"""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A destination in a folder of its own, and an address there."""
    folder = tmp_path / "brought"
    folder.mkdir()
    (folder / "archive.py").write_text(ARCHIVE, encoding="utf-8")
    monkeypatch.setattr(destinations, "__path__", [*destinations.__path__, str(folder)])
    return f"archive://{tmp_path}/out"


def test_every_file_is_a_destination_with_schemes_of_its_own() -> None:
    found = registry()
    assert {"folder", "hub", "objects", "oci"} <= set(found)
    schemes = [scheme for each in found.values() for scheme in each.SCHEMES]
    assert len(schemes) == len(set(schemes))
    assert ANY_SCHEME in schemes


def test_no_address_is_the_hub(tmp_path: Path) -> None:
    for address in (None, "hub://", "HUB://"):
        assert isinstance(find(address), HubDestination)
    with pytest.raises(UsageFailure, match=r"publish\.repo names the Hub's repos"):
        find("hub://ann/tiny")
    place = find(str(tmp_path / "hub"))
    assert isinstance(place, FolderDestination)
    assert (place.user(), place.unreachable()) == (LOCAL_USER, None)


def test_a_path_may_hold_what_looks_like_a_scheme(tmp_path: Path) -> None:
    for address, root in (("./a://b", "a:/b"), (f"FILE://{tmp_path}/a%20b", f"{tmp_path}/a b")):
        place = find(address)
        assert isinstance(place, FolderDestination)
        assert place.root == Path(root)


def test_a_file_brings_a_destination(archive: str, tmp_path: Path) -> None:
    place, bundle = find(archive), bundle_of(tmp_path)
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes) == (True, sum(map(len, FILES.values())))
    assert publish(place, bundle).is_new is False


def test_the_command_publishes_there(run: Run, archive: str, server: HubServer, tmp_path: Path) -> None:
    dry = run("publish", "recipe.yaml", "--to", archive, "--dry-run")
    assert (dry.code, "in one archive" in dry.out) == (0, True)
    done = run("publish", "recipe.yaml", "--to", archive, "--json")
    (repo,) = done.answer["repos"]
    assert (done.code, repo["repo"], repo["is_new"]) == (0, "archivist/Tiny-0.1B-GGUF", True)
    assert (tmp_path / "out" / "Tiny-0.1B-GGUF.zip").is_file()
    assert REPO not in server.repos

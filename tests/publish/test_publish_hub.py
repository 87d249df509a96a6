"""Publishing to the Hub: one commit, nothing twice, everything read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.progress import Silent
from tests.publish.bundles import bundle

if TYPE_CHECKING:
    from pathlib import Path

    from convert.publish.bundle import Bundle
    from convert.publish.destination import Sent
    from convert.publish.hub import HubPlace
    from tests.hub.server import HubServer

REPO = "ann/tiny-GGUF"


def publish(place: HubPlace, what: Bundle) -> Sent:
    sent = place.send(what, place.describe(what), Silent())
    place.read_back(what, sent, Silent())
    return sent


def files(what: Bundle) -> dict[str, bytes]:
    return {file.path: file.read() for file in what.files}


def standing(server: HubServer, ref: str = "main", repo: str = REPO) -> dict[str, bytes]:
    found = server.repos[repo]
    return {k: v for k, v in found.commits[str(found.find(ref))].items() if k != ".gitattributes"}


def test_a_bundle_goes_out_in_one_commit(server: HubServer, place: HubPlace, tmp_path: Path) -> None:
    what = bundle(tmp_path)
    sent = publish(place, what)
    assert standing(server) == files(what)
    assert sorted(files(what)) == [
        "LICENSE",
        "README.md",
        "gguf-Q6_K/manifest.json",
        "gguf-Q6_K/provenance.json",
        "gguf-Q6_K/report.json",
        "gguf-Q8_0/manifest.json",
        "gguf-Q8_0/provenance.json",
        "gguf-Q8_0/report.json",
        "release.json",
        "tiny-Q6_K.gguf",
        "tiny-Q8_0.gguf",
    ]
    repo = server.repos[REPO]
    assert repo.is_private
    assert repo.history() == [sent.revision, repo.history()[1]]
    assert sent.is_new
    assert sent.sent_bytes == what.size_bytes

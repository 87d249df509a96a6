"""Publishing to the Hub: one commit, nothing twice, everything read back."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.errors import Failure
from convert.progress import Silent
from convert.publish.destinations.hub import HubDestination
from tests.hub.server import Fault, HubServer
from tests.publish.bundles import bundle
from tests.publish.conftest import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from convert.publish.bundle import Bundle
    from convert.publish.destination import Sent
    from convert.source import Hub

REPO = "ann/tiny-GGUF"


def publish(place: HubDestination, what: Bundle) -> Sent:
    sent = place.send(what, place.survey(what), Silent())
    place.read_back(what, sent, Silent())
    return sent


def files(what: Bundle) -> dict[str, bytes]:
    return {file.path: file.read() for file in what.files}


def standing(server: HubServer, ref: str = "main", repo: str = REPO) -> dict[str, bytes]:
    found = server.repos[repo]
    return {k: v for k, v in found.commits[str(found.find(ref))].items() if k != ".gitattributes"}


def test_a_bundle_goes_out_in_one_commit(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
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


def test_a_second_version_sends_what_changed_and_leaves_the_rest(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    first = bundle(tmp_path / "one")
    publish(place, first)
    repo = server.repos[REPO]
    repo.refs["main"] = repo.push(
        {**repo.commits[repo.refs["main"]], "notes.md": b"by hand"}, repo.refs["main"], "by hand"
    )
    server.log.clear()
    second = first.with_made({"extra.gguf": b"more"})
    survey = place.survey(second)
    assert [file.path for file in survey.missing] == ["extra.gguf"]
    assert survey.foreign == ("notes.md",)
    sent = publish(place, second)
    assert sent.sent_bytes == len(b"more")
    assert [exchange.method for exchange in server.log].count("PUT") == 1
    assert standing(server) == files(second) | {"notes.md": b"by hand"}
    assert len(repo.history()) == 4


def test_the_hub_stores_nothing_twice(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    what = bundle(tmp_path)
    publish(place, what)
    moved = what.with_made({"again/copy.gguf": what.files[-1].read()})
    server.log.clear()
    publish(place, moved)
    assert not [exchange for exchange in server.log if exchange.method == "PUT"]
    assert standing(server)["again/copy.gguf"] == what.files[-1].read()


def test_a_branch_that_moves_meanwhile(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    publish(place, bundle(tmp_path))
    what = bundle(tmp_path / "next", size_bytes=50_000)
    survey = place.survey(what)
    repo = server.repos[REPO]
    theirs = repo.refs["main"] = repo.push({"a.txt": b"theirs"}, repo.refs["main"], "somebody else")
    with pytest.raises(Failure, match="somebody changed it meanwhile") as caught:
        place.send(what, survey, Silent())
    assert "run the same command again" in caught.value.hint
    assert repo.refs["main"] == theirs
    publish(place, what)
    assert standing(server) == files(what) | {"a.txt": b"theirs"}
    assert repo.parents[repo.refs["main"]] == theirs


def test_who_makes_the_repo_meanwhile_is_not_overlooked(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    """Where no repo was, the one that is found when it is to be made may hold nothing yet, or the same."""
    what = bundle(tmp_path)
    survey = place.survey(what)
    repo = server.add(REPO, {".gitattributes": b"", "README.md": b"theirs"}, is_private=True)
    with pytest.raises(Failure, match="somebody changed it meanwhile, and nothing was published"):
        place.send(what, survey, Silent())
    assert standing(server) == {"README.md": b"theirs"}
    repo.commit({".gitattributes": b"", **files(what)})
    assert not place.send(what, survey, Silent()).is_new
    repo.commit({".gitattributes": b""})
    assert place.send(what, survey, Silent()).is_new
    assert standing(server) == files(what)


def test_a_pull_request_leaves_the_branch_alone(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    server.add(REPO, {"README.md": b"mine"}, is_private=True)
    what = bundle(tmp_path, "{pull_request: true}")
    sent = publish(place, what)
    repo = server.repos[REPO]
    assert standing(server) == {"README.md": b"mine"}
    assert repo.pulls == {"refs/pr/1": sent.revision}
    assert standing(server, "refs/pr/1") == files(what)
    again = publish(place, what)
    assert (again.is_new, again.revision) == (False, sent.revision)
    assert len(repo.pulls) == 1


def test_a_pull_request_whose_answer_was_lost_is_found(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    server.add(REPO, {"README.md": b"mine"}, is_private=True)
    server.faults.append(Fault("lost", "/commit/"))
    sent = publish(place, bundle(tmp_path, "{pull_request: true}"))
    assert server.repos[REPO].pulls == {"refs/pr/1": sent.revision}


def test_what_is_private_is_not_put_into_a_public_repo(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    server.add(REPO, {"README.md": b"mine"})
    with pytest.raises(Failure, match="the repo is public"):
        place.survey(bundle(tmp_path))
    publish(place, bundle(tmp_path / "open", "{private: false}"))
    assert len(standing(server)) > 1


def test_a_tag_stays_where_it_stands(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    publish(place, bundle(tmp_path, "{tag: v1}"))
    repo = server.repos[REPO]
    assert repo.tags == {"v1": repo.refs["main"]}
    publish(place, bundle(tmp_path, "{tag: v1}"))
    newer = bundle(tmp_path / "next", "{tag: v1}", size_bytes=50_000)
    with pytest.raises(Failure, match="the tag v1 already names something else"):
        place.survey(newer)
    assert len(repo.history()) == 2


def test_a_repo_of_an_organisation(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    server.orgs["lab"] = {"ann"}
    what = bundle(tmp_path, '{repo: "lab/{model}-{target}"}')
    publish(place, what)
    assert standing(server, repo="lab/tiny-GGUF") == files(what)
    server.orgs["lab"].clear()
    with pytest.raises(Failure, match="your token may not write there"):
        publish(place, bundle(tmp_path / "other", '{repo: "lab/{model}-x-{target}"}'))


def test_a_repo_of_many_files_comes_page_by_page(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    server.page_size = 3
    what = bundle(tmp_path)
    publish(place, what)
    assert not place.survey(what).missing


def test_large_files_go_in_parts(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    server.part_bytes = 500_000
    what = bundle(tmp_path, size_bytes=1_200_000)
    publish(place, what)
    assert standing(server) == files(what)
    parts = [exchange for exchange in server.log if "/lfs-part/" in exchange.path]
    assert len(parts) == 6
    assert not any(exchange.authorization for exchange in parts)


def test_progress_is_told_in_bytes_each_once(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    server.part_bytes = 500_000
    server.faults = [Fault("status", "/lfs-part/", status=503), Fault("reset", "/lfs-part/")]
    told = Told()
    what = bundle(tmp_path, size_bytes=1_200_000)
    sent = place.send(what, place.survey(what), told)
    place.read_back(what, sent, told)
    assert told.total == {"upload": what.size_bytes, "read back": told.total["read back"]}
    assert told.done == told.total


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.total: dict[str, int] = {}
        self.done: dict[str, int] = {}

    @contextmanager
    def stage(self, label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        self.total[label] = total_bytes
        self.done[label] = 0

        def advance(count: int) -> None:
            self.done[label] += count

        yield advance


def test_a_bit_that_flips_on_its_way_up(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    server.faults.append(Fault("flip", "/lfs/", method="PUT", after_bytes=5000))
    what = bundle(tmp_path)
    publish(place, what)
    assert standing(server) == files(what)
    assert server.faults[0].times == 0
    puts = [exchange.path for exchange in server.log if exchange.method == "PUT"]
    assert len(puts) == 3
    assert len(set(puts)) == 2


def test_a_bit_that_flips_in_the_commit_itself(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    what = bundle(tmp_path, "{tag: v1}")
    server.faults.append(Fault("flip", "/commit/", method="POST", after_bytes=400))
    with pytest.raises(Failure, match="is not what was sent"):
        publish(place, what)
    assert server.faults[0].times == 0
    assert not server.repos[REPO].tags
    publish(place, what)
    assert standing(server) == files(what)
    assert server.repos[REPO].tags == {"v1": server.repos[REPO].refs["main"]}


def test_a_bit_that_flips_on_its_way_back(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    what = bundle(tmp_path)
    sent = place.send(what, place.survey(what), Silent())
    server.faults.append(Fault("flip", "/resolve/"))
    place.read_back(what, sent, Silent())
    assert server.faults[0].times == 0
    server.faults.append(Fault("flip", "/resolve/", times=100))
    with pytest.raises(Failure, match="what came back is not what was sent"):
        place.read_back(what, sent, Silent())


def test_a_hub_that_keeps_something_else(server: HubServer, place: HubDestination, tmp_path: Path) -> None:
    what = bundle(tmp_path)
    sent = publish(place, what)
    repo = server.repos[REPO]
    stored = repo.commits[str(sent.revision)]
    for path in ("README.md", "tiny-Q8_0.gguf"):
        whole = stored[path]
        stored[path] = whole[:-1] + b"?"
        with pytest.raises(Failure, match=rf"{path}: at .* it is not what was sent"):
            place.read_back(what, sent, Silent())
        assert [file.path for file in place.survey(what).missing] == [path]
        stored[path] = whole
    publish(place, what)
    assert len(repo.history()) == 2


def test_a_card_that_the_hub_does_not_understand_stops_it_before_anything_is_sent(
    server: HubServer, place: HubDestination, tmp_path: Path
) -> None:
    what = bundle(tmp_path)
    spoilt = replace(what, files=tuple(file for file in what.files if file.path != "README.md"))
    spoilt = spoilt.with_made({"README.md": b"---\nlicense: [mit\n---\n"})
    with pytest.raises(Failure, match=r"README\.md: the Hub rejects the request \(400: while parsing"):
        publish(place, spoilt)
    assert len(server.repos[REPO].history()) == 1
    assert not [exchange for exchange in server.log if exchange.method == "PUT"]


def test_the_token_goes_to_the_hub_alone(server: HubServer, hub: Hub, tmp_path: Path) -> None:
    with HubServer() as cdn, HubDestination(hub, answer_s=20) as place:
        server.cdn = cdn
        what = bundle(tmp_path)
        publish(place, what)
        assert cdn.log
        assert not any(exchange.authorization for exchange in cdn.log)
        assert TOKEN not in repr(place.session)
    assert {exchange.authorization for exchange in server.log} == {None, f"Bearer {TOKEN}"}

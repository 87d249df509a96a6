"""Object stores: whoever follows the list sees one release, whole; what arrived is not sent twice."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import fsspec  # type: ignore[import-untyped]
import pytest

from convert.errors import Failure, UsageFailure
from convert.progress import Silent
from convert.publish.destinations import find, objects
from convert.publish.destinations.objects import ObjectDestination
from convert.source import Hub
from tests.destinations.bundles import FILES, NAME, NEXT, bundle_of, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from convert.publish.bundle import Bundle

MARK = "published.json"
PART_BYTES = 64 << 10


def store_at(address: str) -> ObjectDestination:
    return ObjectDestination.at(address, Hub.from_environment())


class Store:
    """A store in memory, of which each writing call can be made to fail, before it is done or after."""

    def __init__(self) -> None:
        self.address = f"memory://{uuid.uuid4()}/models"
        self.files = fsspec.filesystem("memory")
        self.calls = 0
        self.fails_at: int | None = None
        self.is_after = False

    @property
    def place(self) -> ObjectDestination:
        """The place, its file system watched."""
        place = store_at(self.address)
        return ObjectDestination(place.address, Watched(place.files, self), place.root)

    def published(self) -> dict[str, bytes] | None:
        """What a reader gets who follows the list; every digest is right, or this fails."""
        place = store_at(self.address)
        base = f"{place.root}/{NAME}"
        if not place.files.exists(f"{base}/{MARK}"):
            return None
        listed = json.loads(place.files.cat_file(f"{base}/{MARK}"))
        return {
            entry["path"]: place.files.cat_file(f"{base}/{listed['version']}/{entry['path']}")
            for entry in listed["files"]
        }

    def step(self, call: Callable[[], Any]) -> Any:
        """One call that changes the store."""
        self.calls += 1
        is_failing = self.calls == self.fails_at
        if is_failing and not self.is_after:
            raise ConnectionError("https://store.example/x?signature=s3cret is gone")
        answer = call()
        if is_failing:
            raise ConnectionError("the answer was lost")
        return answer


class Watched:
    """fsspec's file system, with what changes it going by the store first."""

    def __init__(self, files: Any, store: Store) -> None:
        self._files, self._store = files, store

    def __getattr__(self, name: str) -> Any:
        original = getattr(self._files, name)
        if name not in {"pipe_file", "cp_file", "open"}:
            return original

        def watched(*given: Any, **named: Any) -> Any:
            if name == "open" and given[1] == "rb":
                return original(*given, **named)
            answer = self._store.step(lambda: original(*given, **named))
            return Writing(answer, self._store) if name == "open" else answer

        return watched


class Writing:
    """A file that is written in parts."""

    def __init__(self, stream: Any, store: Store) -> None:
        self._stream, self._store = stream, store
        self.closed = False

    def write(self, data: bytes) -> Any:
        return self._store.step(lambda: self._stream.write(data))

    def close(self) -> None:
        self._stream.close()

    def commit(self) -> None:
        self._store.step(self._stream.commit)

    def discard(self) -> None:
        self._stream.discard()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setattr("convert.store.objects.PART_BYTES", PART_BYTES)
    made = Store()
    yield made
    made.files.rm(made.address.removesuffix("/models"), recursive=True)


def test_first_again_and_next(store: Store, tmp_path: Path) -> None:
    place, bundle = store.place, bundle_of(tmp_path)
    store.files.makedirs(store.address)
    survey = place.survey(bundle)
    assert (survey.exists, survey.head, survey.missing) == (False, None, bundle.files)
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes) == (True, sum(map(len, FILES.values())))
    assert sent.place == f"{store.address}/{NAME}/{sent.revision}"
    assert store.published() == FILES

    calls = store.calls
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes, store.calls) == (False, 0, calls)

    # What the release before has is copied within the store.
    changed = bundle_of(tmp_path, NEXT)
    survey = place.survey(changed)
    assert {file.path for file in survey.missing} == {"README.md", "Tiny-Q8_0.gguf"}
    sent = publish(place, changed)
    assert (sent.is_new, sent.sent_bytes) == (True, survey.missing_bytes)
    assert store.published() == NEXT

    # And back: the first release is there still.
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes) == (True, 0)
    assert store.published() == FILES


def refused(place: ObjectDestination, bundle: Bundle) -> Failure | None:
    """The line with which a publication ends, if it does not succeed."""
    try:
        publish(place, bundle)
    except Failure as failure:
        return failure
    return None


@pytest.mark.parametrize("is_after", [False, True])
@pytest.mark.parametrize("is_rebuild", [False, True])
def test_whatever_call_fails_readers_see_one_release(
    store: Store, tmp_path: Path, *, is_rebuild: bool, is_after: bool
) -> None:
    old, new = bundle_of(tmp_path), bundle_of(tmp_path, NEXT)
    address, failed = store.address, 0
    while True:
        store.address, store.fails_at = f"{address}/{failed}", None
        store.files.makedirs(store.address)
        if is_rebuild:
            publish(store.place, old)
        store.calls, store.fails_at, store.is_after = 0, failed + 1, is_after
        refusal = refused(store.place, new)
        if refusal is None:
            break
        assert "\n" not in refusal.message
        assert "s3cret" not in refusal.message
        assert store.published() in ([FILES, NEXT] if is_rebuild else [None, NEXT])
        store.fails_at = None
        publish(store.place, new)
        assert store.published() == NEXT
        failed += 1
    assert failed > (7 if is_rebuild else 10)


def test_a_rerun_sends_what_is_missing(store: Store, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    store.fails_at = 4
    with pytest.raises(Failure):
        publish(store.place, bundle)
    store.fails_at = None
    survey = store.place.survey(bundle)
    assert 0 < len(survey.missing) < len(bundle.files)
    assert publish(store.place, bundle).sent_bytes == survey.missing_bytes


def test_what_changed_since_it_was_looked_at_is_left_alone(store: Store, tmp_path: Path) -> None:
    place, bundle = store.place, bundle_of(tmp_path)
    survey = place.survey(bundle)
    publish(place, bundle_of(tmp_path, NEXT))
    with pytest.raises(Failure, match="meanwhile"):
        place.send(bundle, survey, Silent())
    assert store.published() == NEXT


def test_a_flipped_byte_is_found_when_read_back(store: Store, tmp_path: Path) -> None:
    place, bundle = store.place, bundle_of(tmp_path)
    sent = publish(place, bundle)
    path = f"{sent.place}/Tiny-Q8_0.gguf"
    data = bytearray(store.files.cat_file(path))
    data[-1] ^= 1
    store.files.pipe_file(path, bytes(data))
    with pytest.raises(Failure, match="not what was published"):
        place.read_back(bundle, sent, Silent())
    store.files.rm(path)
    assert publish(place, bundle).sent_bytes == len(data)


def test_a_release_that_is_not_whole_is_not_copied_from(store: Store, tmp_path: Path) -> None:
    place = store.place
    sent = publish(place, bundle_of(tmp_path))
    store.files.rm(f"{sent.place}/Tiny-Q4_K_M.gguf")
    publish(place, bundle_of(tmp_path, NEXT))
    assert store.published() == NEXT


def test_a_list_of_another_kind_is_refused(store: Store, tmp_path: Path) -> None:
    place, bundle = store.place, bundle_of(tmp_path)
    for data in (b"", b"{", b"[]", b'{"schema": 2}'):
        store.files.pipe_file(f"{store.address}/{NAME}/{MARK}", data)
        with pytest.raises(Failure, match="damaged, or of a later version"):
            place.survey(bundle)


def test_a_list_without_end_is_not_read(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundle_of(tmp_path)
    publish(store.place, bundle)
    asked = []

    def read(_: str, **limits: int) -> bytes:
        asked.append(limits)
        return bytes(101)

    monkeypatch.setattr(store.files, "cat_file", read)
    monkeypatch.setattr(objects, "LARGEST_BYTES", 100)
    with pytest.raises(Failure, match="damaged"):
        store.place.look(bundle.repo, "main")
    assert asked == [{"start": 0, "end": 101}]


def test_a_source_that_changed_is_not_published(store: Store, tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path)
    model = next(file.content for file in bundle.files if file.path == "Tiny-Q8_0.gguf")
    assert not isinstance(model, bytes)
    for damage in (b"short", bytes(len(FILES["Tiny-Q8_0.gguf"]))):
        model.write_bytes(damage)
        with pytest.raises(Failure, match="changed since"):
            publish(store.place, bundle)
        assert store.published() is None


def test_a_local_file_system_of_fsspecs_does_too(tmp_path: Path) -> None:
    place = store_at(f"local://{tmp_path}/out")
    publish(place, bundle_of(tmp_path))
    publish(place, bundle_of(tmp_path, NEXT))
    (version,) = {json.loads(path.read_bytes())["version"] for path in (tmp_path / "out").rglob(MARK)}
    for path, data in NEXT.items():
        assert (tmp_path / "out" / NAME / version / path).read_bytes() == data


def test_a_list_of_which_half_is_written_is_seen_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not every place that fsspec reaches writes a file whole or not at all."""
    place = store_at(f"local://{tmp_path}/out")
    publish(place, bundle_of(tmp_path))
    (mark,) = (tmp_path / "out").rglob(MARK)
    before, write = mark.read_bytes(), place.files.pipe_file

    def fail(path: str, data: bytes) -> None:
        write(path, data[: len(data) // 2] if MARK in path else data)
        if MARK in path:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(place.files, "pipe_file", fail)
    with pytest.raises(Failure, match="Input/output error"):
        publish(place, bundle_of(tmp_path, NEXT))
    assert mark.read_bytes() == before
    monkeypatch.undo()
    publish(place, bundle_of(tmp_path, NEXT))
    assert [each.name for each in mark.parent.iterdir() if each.is_file()] == [MARK]
    assert mark.read_bytes() != before


@pytest.mark.parametrize(
    "address",
    [
        "",
        "nowhere://x",
        "https://host/x",
        "s3://user:secret@bucket",
        "oci://",
        "oci://a b",
        "oci://h/A!",
        "s3://[x",
        "memory://",
        "memory:///",
    ],
)
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(UsageFailure) as caught:
        find(address)
    assert "secret" not in caught.value.message
    assert caught.value.hint


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    with pytest.raises(Failure, match="not installed") as caught:
        find("s3://bucket/models")
    assert caught.value.hint == "pip install s3fs"

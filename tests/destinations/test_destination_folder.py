"""A local folder: the old state or the new, whatever stands beside it, and no byte copied twice."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure, UsageFailure
from convert.progress import Silent
from convert.publish.destinations import find, folder, located
from convert.publish.destinations.folder import FolderDestination
from convert.store import swap
from tests.destinations.bundles import FILES, NAME, NEXT, bundle_of, publish, tree

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.publish.bundle import Bundle

MARK = "published.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


def standing(root: Path) -> dict[str, bytes] | None:
    """What is to be seen, having made sure that its list tells of it."""
    visible = [path for path in root.iterdir() if not path.name.startswith(".")] if root.is_dir() else []
    if not visible:
        return None
    assert visible == [root / NAME]
    found = tree(root / NAME)
    listed = json.loads(found.pop(MARK))
    assert {entry["path"] for entry in listed["files"]} <= set(found)
    return found


def test_first_again_and_next(root: Path, tmp_path: Path) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    survey = place.survey(bundle)
    assert (survey.exists, survey.head, survey.missing) == (False, None, bundle.files)
    assert not root.exists()
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes) == (True, sum(map(len, FILES.values())))
    assert standing(root) == FILES

    before = {path: path.stat().st_ino for path in (root / NAME).rglob("*")}
    assert place.survey(bundle).missing == ()
    sent = publish(place, bundle)
    assert (sent.is_new, sent.sent_bytes) == (False, 0)
    assert {path: path.stat().st_ino for path in (root / NAME).rglob("*")} == before

    changed = bundle_of(tmp_path, NEXT)
    survey = place.survey(changed)
    assert {file.path for file in survey.missing} == {"README.md", "Tiny-Q8_0.gguf"}
    sent = publish(place, changed)
    assert sent.sent_bytes == survey.missing_bytes
    assert standing(root) == NEXT
    assert [path.name for path in (root / ".publishing").iterdir()] == [f"{NAME}.lock"]


def test_a_recipes_folder_is_seen_from_the_recipe(tmp_path: Path) -> None:
    assert located("../shelf", tmp_path / "recipes") == str(tmp_path / "recipes" / "../shelf")
    assert located(str(tmp_path / "shelf"), Path("recipes")) == str(tmp_path / "shelf")
    assert located("~/shelf", tmp_path) == str(Path.home() / "shelf")
    for address in ("s3://bucket/models", "oci://registry.example/models", "file:///shelf"):
        assert located(address, tmp_path) == address
    assert located("./~nobody-here", tmp_path) == str(tmp_path / "~nobody-here")


@pytest.mark.parametrize("asked", [find, lambda address: located(address, Path())], ids=["--to", "recipe"])
def test_a_home_that_nobody_has_is_no_place(asked: Callable[[str], object]) -> None:
    with pytest.raises(UsageFailure, match=r"publish\.to: this machine has no user nobody-here"):
        asked("~nobody-here/shelf")


def test_what_is_not_ours_stays(root: Path, tmp_path: Path) -> None:
    place = find(root.as_uri())
    publish(place, bundle_of(tmp_path))
    (root / NAME / "notes").mkdir()
    (root / NAME / "notes" / "mine.txt").write_bytes(b"mine")
    (root / NAME / "link").symlink_to("README.md")
    without = {path: data for path, data in NEXT.items() if path != "Tiny-Q4_K_M.gguf"}
    bundle = bundle_of(tmp_path, without)
    assert place.survey(bundle).foreign == ("Tiny-Q4_K_M.gguf", "link", "notes/mine.txt")
    publish(place, bundle)
    assert (root / NAME / "link").is_symlink()
    found = standing(root)
    assert found
    assert found["notes/mine.txt"] == b"mine"
    assert found["Tiny-Q4_K_M.gguf"] == FILES["Tiny-Q4_K_M.gguf"]
    listed = json.loads((root / NAME / MARK).read_bytes())
    assert [entry["path"] for entry in listed["files"]] == sorted(without)


def test_a_folder_of_somebody_elses_is_refused(root: Path, tmp_path: Path) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    (root / NAME).mkdir(parents=True)
    (root / NAME / "thesis.txt").write_text("all of it")
    with pytest.raises(Failure, match="not published there"):
        place.survey(bundle)
    (root / NAME / MARK).write_text("{}")
    with pytest.raises(Failure, match="damaged"):
        place.survey(bundle)
    (root / NAME / MARK).unlink()
    os.mkfifo(root / NAME / MARK)
    with pytest.raises(Failure, match="damaged"):
        place.survey(bundle)
    shutil.rmtree(root / NAME)
    (root / NAME).write_text("a file")
    with pytest.raises(Failure, match="not a folder, but a link or a file"):
        place.survey(bundle)
    shutil.rmtree(root)
    root.write_text("a file")
    with pytest.raises(Failure, match="a file is where a folder is needed"):
        place.survey(bundle)


def test_a_list_without_end_is_not_read(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    publish(place, bundle)
    monkeypatch.setattr(folder, "LARGEST_BYTES", 100)
    with pytest.raises(Failure, match="damaged"):
        place.look(bundle.repo, "main")


def test_what_changed_since_it_was_looked_at_is_left_alone(root: Path, tmp_path: Path) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    survey = place.survey(bundle)
    publish(place, bundle_of(tmp_path, NEXT))
    with pytest.raises(Failure, match="meanwhile"):
        place.send(bundle, survey, Silent())
    assert standing(root) == NEXT


def test_two_runs_at_once_are_one_too_many(root: Path, tmp_path: Path) -> None:
    place, bundle = FolderDestination(root), bundle_of(tmp_path)
    inner: list[Failure] = []

    class Meddling(Silent):
        def stage(self, label: str, total_bytes: int) -> Any:
            with pytest.raises(Failure, match="another run") as caught:
                place.send(bundle, place.survey(bundle), Silent())
            inner.append(caught.value)
            return super().stage(label, total_bytes)

    place.send(bundle, place.survey(bundle), Meddling())
    assert len(inner) == 1
    assert standing(root) == FILES


def test_a_source_that_changed_is_not_published(root: Path, tmp_path: Path) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    model = next(file.content for file in bundle.files if file.path == "Tiny-Q8_0.gguf")
    assert not isinstance(model, bytes)
    for damage in (b"short", bytes(len(FILES["Tiny-Q8_0.gguf"]))):
        model.write_bytes(damage)
        with pytest.raises(Failure, match="changed since") as caught:
            publish(place, bundle)
        assert "remove the artifact's folder" in caught.value.hint
        assert standing(root) is None


def test_a_flipped_byte_is_found_when_read_back(root: Path, tmp_path: Path) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    sent = publish(place, bundle)
    path = root / NAME / "Tiny-Q8_0.gguf"
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(Failure, match="not what was published") as caught:
        place.read_back(bundle, sent, Silent())
    assert "remove the file" in caught.value.hint
    path.unlink()
    assert publish(place, bundle).sent_bytes == len(data)
    assert standing(root) == FILES


def test_without_second_names_files_are_copied(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = find(str(root))
    publish(place, bundle_of(tmp_path))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    publish(place, bundle_of(tmp_path, NEXT))
    assert standing(root) == NEXT


def test_a_full_disk_is_one_line(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, bundle = find(str(root)), bundle_of(tmp_path)
    monkeypatch.setattr("convert.publish.destinations.folder.free_bytes", lambda _: 1000)
    with pytest.raises(Failure, match="are free"):
        publish(place, bundle)
    assert standing(root) is None


# Every call through which the disk is changed, or waited for.
CALLS = ("open", "link", "mkdir", "rename", "fsync", "unlink", "rmdir")


def killed_at(root: Path, bundle: Bundle, call: int, exchange: Callable[..., None] | None) -> bool:
    """Publish in a fork that dies ahead of its nth call; whether there was an nth."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(original: Callable[..., Any]) -> Callable[..., Any]:
            def before(*given: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == call:
                    os._exit(9)
                return original(*given, **named)

            return before

        for name in CALLS:
            setattr(os, name, counted(getattr(os, name)))
        swap.exchange = counted(exchange or swap.exchange)
        publish(FolderDestination(root), bundle)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def no_exchange(one: Path, other: Path) -> None:
    raise OSError(22, "this file system cannot exchange", str(one), None, str(other))


@pytest.mark.parametrize(
    ("is_rebuild", "has_exchange"),
    [
        pytest.param(False, True, marks=pytest.mark.slow),
        pytest.param(True, True, marks=pytest.mark.slow),
        pytest.param(True, False, marks=pytest.mark.slow),
    ],
)
def test_killed_ahead_of_any_call_it_leaves_the_old_or_the_new(
    quick_disk: Path, *, is_rebuild: bool, has_exchange: bool
) -> None:
    old, new, places = bundle_of(quick_disk), bundle_of(quick_disk, NEXT), 0
    while True:
        root = quick_disk / f"out{places}"
        if is_rebuild:
            publish(FolderDestination(root), old)
        was_killed = killed_at(root, new, places + 1, None if has_exchange else no_exchange)
        stands = standing(root)
        if stands is None and is_rebuild:
            # Between two renames, where names cannot be exchanged: the next run, or look, puts it back.
            assert not has_exchange
            assert FolderDestination(root).survey(old).missing == ()
        else:
            assert stands in ([FILES, NEXT] if is_rebuild else [None, NEXT])
        left = tree(root / ".publishing" / NAME) if (root / ".publishing" / NAME).is_dir() else {}
        whole = sum(len(data) for path, data in left.items() if NEXT.get(path) == data)
        sent = publish(FolderDestination(root), new)
        assert standing(root) == NEXT
        assert sent.sent_bytes <= sum(map(len, NEXT.values())) - whole or stands == NEXT
        assert [path.name for path in (root / ".publishing").iterdir()] == [f"{NAME}.lock"]
        if not was_killed:
            break
        places += 1
    assert places > 25

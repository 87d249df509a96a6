"""What stands is listed, inspected to the last byte, and cleared of what is of no use."""

import json
import os
import shutil
from pathlib import Path

import pytest

from convert.errors import Failure
from convert.store import (
    ArtifactReport,
    Flaw,
    MissingManifest,
    State,
    Store,
    clean,
    inspect,
    inspect_artifact,
    list_artifacts,
)
from tests.store.building import RECIPE, TARGET, build, key_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(tmp_path, "a")
    return tmp_path / RECIPE / TARGET


def flaws(folder: Path, *, verify: bool = False) -> dict[str, Flaw]:
    return {each.path: each.flaw for each in inspect_artifact(folder, verify=verify).differences}


def test_nothing_yet_is_an_empty_list(tmp_path: Path) -> None:
    assert list_artifacts(tmp_path / "artifacts") == ()
    assert clean(tmp_path / "artifacts") == ()
    assert not (tmp_path / "artifacts").exists()


def test_every_artifact_is_listed_with_its_state(folder: Path) -> None:
    root = folder.parent.parent
    for mark in ("damaged", "incomplete", "newer"):
        build(root, mark, recipe=mark)
    (root / "damaged" / TARGET / "manifest.json").write_text("{", encoding="utf-8")
    (root / "incomplete" / TARGET / "model.gguf").unlink()
    (root / "newer" / TARGET / "manifest.json").write_text(json.dumps({"schema": 99}), encoding="utf-8")
    (root / RECIPE / "report.json").write_text("{}", encoding="utf-8")
    (root / RECIPE / "plots").mkdir()
    (root / "README.md").touch()
    listed = {each.recipe: each for each in list_artifacts(root)}
    assert {name: each.state for name, each in listed.items()} == {
        "damaged": State.DAMAGED,
        "incomplete": State.INCOMPLETE,
        "newer": State.UNKNOWN,
        RECIPE: State.COMPLETE,
    }
    assert listed[RECIPE].key == key_of("a")
    assert listed[RECIPE].problem is None
    assert listed[RECIPE].size_bytes > 96 << 10
    assert "model.gguf: missing" in (listed["incomplete"].problem or "")
    assert "not valid JSON" in (listed["damaged"].problem or "")


def test_a_sound_artifact_has_no_differences(folder: Path) -> None:
    told: list[int] = []
    report = inspect_artifact(folder, verify=True, progress=told.append)
    assert (report.differences, report.is_sound, report.is_verified) == ((), True, True)
    assert sum(told) == report.size_bytes == report.manifest.size_bytes


def test_one_flipped_bit_is_found_by_verify_alone(folder: Path) -> None:
    with (folder / "model.gguf").open("r+b") as stream:
        stream.seek(12345)
        byte = stream.read(1)[0]
        stream.seek(12345)
        stream.write(bytes([byte ^ 1]))
    assert flaws(folder) == {}
    assert flaws(folder, verify=True) == {"model.gguf": Flaw.SHA256}


def test_missing_cut_extra_and_unfit_files_are_named(folder: Path) -> None:
    os.truncate(folder / "model.gguf", 7)
    shutil.rmtree(folder / "notes")
    (folder / "notes").write_text("in the way", encoding="utf-8")
    (folder / "extra").touch()
    assert flaws(folder, verify=True) == {
        "model.gguf": Flaw.SIZE,
        "notes/card.md": Flaw.MISSING,
        "notes": Flaw.EXTRA,
        "extra": Flaw.EXTRA,
    }
    (folder / "model.gguf").unlink()
    (folder / "model.gguf").symlink_to("/dev/zero")
    assert flaws(folder, verify=True)["model.gguf"] is Flaw.NOT_A_FILE


def test_an_extra_file_alone_does_no_harm(folder: Path) -> None:
    (folder / "notes.txt").touch()
    assert inspect_artifact(folder, verify=True).is_sound


def test_inspect_takes_a_folder_or_its_manifest(folder: Path) -> None:
    for path in (folder, folder / "manifest.json"):
        report = inspect(path)
        assert isinstance(report, ArtifactReport)
        assert report.path == folder
    with pytest.raises(MissingManifest, match="no artifact"):
        inspect(folder.parent)
    with pytest.raises(Failure, match="no such file"):
        inspect(folder / "nothing")


def test_clean_removes_what_cannot_be_used_and_says_so_first(folder: Path) -> None:
    root = folder.parent.parent
    for mark in ("damaged", "incomplete", "newer"):
        build(root, mark, recipe=mark)
    (root / "damaged" / TARGET / "manifest.json").write_text("{", encoding="utf-8")
    (root / "incomplete" / TARGET / "model.gguf").unlink()
    (root / "newer" / TARGET / "manifest.json").write_text(json.dumps({"schema": 99}), encoding="utf-8")
    (root / ".staging" / "left").mkdir()
    (root / RECIPE / "plots").mkdir()
    would = clean(root, dry_run=True)
    assert [Path(each.path).relative_to(root).parts[0] for each in would] == [
        ".staging",
        "damaged",
        "incomplete",
    ]
    assert clean(root) == would
    assert clean(root) == ()
    assert sorted(each.name for each in root.iterdir()) == [".staging", "newer", RECIPE]
    assert (root / RECIPE / "plots").is_dir()
    assert Store(root).is_up_to_date(RECIPE, TARGET, key_of("a"))
    assert [each.name for each in (root / ".staging").iterdir()] == [".turn"]


def test_clean_removes_artifacts_of_recipes_that_are_no_more(folder: Path) -> None:
    root = folder.parent.parent
    build(root, "b", recipe="gone")
    (root / "gone" / "report.json").touch()
    removed = clean(root, keep=lambda recipe: recipe == RECIPE)
    assert [(each.path, "gone" in each.why) for each in removed] == [(root / "gone" / TARGET, True)]
    assert (root / "gone" / "report.json").exists()
    assert inspect_artifact(folder, verify=True).is_sound

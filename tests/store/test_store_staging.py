"""Building unseen: several targets at once, names and folders that cannot work, and what is hashed when."""

import errno
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import get_ident

import pytest

from convert.errors import Failure, UsageFailure
from convert.store import Store, seal, swap
from convert.store import digest as digest_module
from convert.store.digest import digest_files
from tests.store.building import RECIPE, TARGET, build, key_of, manifest_of, visible_mark


def test_a_build_that_stands_is_up_to_date_until_something_of_it_changes(tmp_path: Path) -> None:
    store = Store(tmp_path)
    assert store.current(RECIPE, TARGET) is None
    assert not store.is_up_to_date(RECIPE, TARGET, key_of("a"))
    manifest = build(tmp_path, "a")
    assert store.current(RECIPE, TARGET) == manifest
    assert store.is_up_to_date(RECIPE, TARGET, key_of("a"))
    assert not store.is_up_to_date(RECIPE, TARGET, key_of("b"))
    model = store.folder(RECIPE, TARGET) / "model.gguf"
    os.truncate(model, 5)
    assert not store.is_up_to_date(RECIPE, TARGET, key_of("a"))
    model.unlink()
    assert not store.is_up_to_date(RECIPE, TARGET, key_of("a"))
    (model.parent / "manifest.json").write_text("{", encoding="utf-8")
    assert not store.is_up_to_date(RECIPE, TARGET, key_of("a"))
    with pytest.raises(Failure, match="not valid JSON"):
        store.current(RECIPE, TARGET)
    build(tmp_path, "a")
    assert store.is_up_to_date(RECIPE, TARGET, key_of("a"))


def test_asking_takes_no_seconds_for_a_model_of_a_thousand_tensors(tmp_path: Path) -> None:
    manifest = manifest_of("big").model_copy(
        update={"tensors": {f"blk.{n}.weight": "Q4_K" for n in range(1000)}}
    )
    store = Store(tmp_path)
    with store.stage(RECIPE, TARGET, manifest.key) as staging:
        staging.allocate("model.gguf", 100)
        staging.commit(manifest)
    start = time.process_time()
    for _ in range(20):
        assert store.is_up_to_date(RECIPE, TARGET, manifest.key)
    assert (time.process_time() - start) / 20 < 1


def test_the_same_build_gives_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path / "here", "a")
    build(tmp_path / "there", "a")

    def content(root: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(root)): path.read_bytes()
            for path in (root / RECIPE).rglob("*")
            if path.is_file()
        }

    assert content(tmp_path / "here") == content(tmp_path / "there")
    assert str(tmp_path).encode() not in content(tmp_path / "here")[f"{RECIPE}/{TARGET}/manifest.json"]


def test_targets_built_in_one_pass_are_committed_one_by_one(tmp_path: Path) -> None:
    store, targets = Store(tmp_path), ["gguf-Q4_0", "gguf-Q8_0", "onnx-int4"]
    told: list[int] = []
    with ExitStack() as stack:
        stagings = [stack.enter_context(store.stage(RECIPE, each, key_of("a"))) for each in targets]
        for staging in stagings:
            staging.allocate("model", 1000)
        seal(stagings, progress=told.append)
        assert sum(told) == 3000 == sum(staging.size_bytes for staging in stagings)
        stagings[0].commit(manifest_of("a", targets[0]), progress=told.append)
        stagings[1].commit(manifest_of("a", targets[1]), progress=told.append)
        assert sum(told) == 3000  # nothing was read twice
    assert [store.is_up_to_date(RECIPE, each, key_of("a")) for each in targets] == [True, True, False]
    assert [each.name for each in (tmp_path / ".staging").iterdir()] == [".turn"]


def test_a_file_written_after_its_digest_was_taken_is_hashed_again(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.stage(RECIPE, TARGET, key_of("a")) as staging:
        model = staging.allocate("model.gguf", 4)
        before = staging.digest()
        model.write_bytes(b"late")
        os.utime(model, ns=(1, 1))
        manifest = staging.commit(manifest_of("a"))
    assert manifest.files != before
    assert manifest.files[0].sha256 == hashlib.sha256(b"late").hexdigest()


def test_folders_come_out_as_the_umask_says(tmp_path: Path) -> None:
    build(tmp_path, "a")
    umask = os.umask(0o022)
    os.umask(umask)
    assert (tmp_path / RECIPE / TARGET).stat().st_mode & 0o777 == 0o777 & ~umask
    assert (tmp_path / RECIPE / TARGET / "model.gguf").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_caller_s_slips_are_bugs_not_failures(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.stage(RECIPE, TARGET, key_of("a")) as staging:
        with pytest.raises(ValueError, match="nothing was written"):
            staging.commit(manifest_of("a"))
        with pytest.raises(ValueError, match="another build's"):
            staging.commit(manifest_of("b"))
        staging.allocate("model.gguf", 1)
        (staging.path / "link").symlink_to("model.gguf")
        with pytest.raises(ValueError, match="link: neither a file nor a folder"):
            staging.commit(manifest_of("a"))
        (staging.path / "link").unlink()
        staging.commit(manifest_of("a"))
        with pytest.raises(ValueError, match="before"):
            staging.commit(manifest_of("a"))


def test_without_an_exchange_of_names_the_new_one_still_gets_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_one: Path, _other: Path) -> None:
        raise OSError(errno.EINVAL, "no such flag")

    monkeypatch.setattr(swap, "exchange", refused)
    build(tmp_path, "old")
    build(tmp_path, "new")
    assert visible_mark(tmp_path) == "new"
    assert [each.name for each in (tmp_path / ".staging").iterdir()] == [".turn"]


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", ".hidden", "a/b", "/etc", "a\\b", "a\nb", "-x", " a", "a:b"),
        pytest.param("a\0b", id="null byte"),
        pytest.param("長" * 40, id="too long"),
    ],
)
def test_a_name_that_cannot_name_a_folder_is_refused(tmp_path: Path, name: str) -> None:
    for recipe, target in ((name, TARGET), (RECIPE, name)):
        with pytest.raises(UsageFailure, match="name") as caught:
            Store(tmp_path).folder(recipe, target)
        assert "\n" not in caught.value.message
        assert "\0" not in caught.value.message


def test_names_that_people_give_are_taken(tmp_path: Path) -> None:
    for name in ("qwen2.5-0.5b", "通义千问", "my recipe", "_x", "a+b", "x" * 100):
        build(tmp_path, "a", recipe=name)
        assert Store(tmp_path).is_up_to_date(name, TARGET, key_of("a"))


def test_where_a_stranger_s_folder_stands_nothing_is_built(tmp_path: Path) -> None:
    theirs = tmp_path / RECIPE / TARGET / "thesis.odt"
    theirs.parent.mkdir(parents=True)
    theirs.touch()
    with pytest.raises(Failure, match="not made here") as caught:
        build(tmp_path, "a")
    assert "move that folder away" in caught.value.hint
    assert theirs.exists()
    theirs.unlink()
    build(tmp_path, "a")  # an empty folder is in nobody's way


def test_a_file_or_a_link_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "taken").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "artifacts" / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="file: a file is where a folder is needed"):
        build(tmp_path / "file", "a")
    with pytest.raises(Failure, match="taken: a file is where a folder is needed"):
        build(tmp_path / "artifacts", "a", recipe="taken")
    with pytest.raises(Failure, match="linked: a symbolic link") as caught:
        build(tmp_path / "artifacts", "a", recipe="linked")
    assert "as a whole" in caught.value.hint


def test_the_artifacts_folder_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "artifacts").symlink_to(tmp_path / "elsewhere")
    build(tmp_path / "artifacts", "a")
    assert visible_mark(tmp_path / "elsewhere") == "a"


@contextmanager
def no_writing(folder: Path) -> Iterator[None]:
    folder.chmod(0o555)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)  # nobody: to root no folder is closed
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


def test_a_folder_that_is_not_writable_is_named_with_a_hint(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    with no_writing(closed), pytest.raises(Failure, match="no permission") as caught:
        build(closed / "artifacts", "a")
    assert "--out" in caught.value.hint


@pytest.mark.parametrize(
    "number", [errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG]
)
def test_whatever_hinders_the_first_folder_is_one_line_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refused(path: str, *_: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    with monkeypatch.context() as patched:
        patched.setattr(os, "mkdir", refused)
        with pytest.raises(Failure) as caught:
            build(tmp_path / "artifacts", "a")
    assert str(tmp_path / "artifacts") in caught.value.message
    assert caught.value.hint


def test_digests_are_right_whatever_the_size_and_the_number_of_threads(tmp_path: Path) -> None:
    contents = {
        tmp_path / str(size): os.urandom(size) for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1)
    }
    for path, data in contents.items():
        path.write_bytes(data)
    expected = {path: (len(data), hashlib.sha256(data).hexdigest()) for path, data in contents.items()}
    for threads in (1, 2, 4):
        found = digest_files(contents, threads=threads)
        assert {path: (each.size_bytes, each.sha256) for path, each in found.items()} == expected


def test_several_files_are_hashed_by_several_threads(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(4)]
    for path in paths:
        with path.open("xb") as stream:
            stream.truncate(32 << 20)
    seen: set[int] = set()
    digest_files(paths, threads=2, progress=lambda _: seen.add(get_ident()))
    assert len(seen) == 2


def test_an_interrupt_does_not_wait_for_gigabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sparse"
    with path.open("xb") as stream:
        stream.truncate(64 << 30)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(digest_module, "wait", interrupted)
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        digest_files([path])
    assert time.perf_counter() - start < 30

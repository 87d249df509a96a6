"""A disk that fills, at whatever moment: one Failure, nothing new to be seen, and the old stands."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from convert.errors import Failure
from convert.store import Store, allocate, require_space, space
from tests.store.building import MODEL_BYTES, assert_recovers, build, key_of, manifest_of, visible_mark

SCRIPT = Path(__file__).with_name("building.py")
MOUNTED = 'mount -t tmpfs -o "$3" tmpfs "$0" && exec "$1" -P "$2" "$0/artifacts" new "$4"'


@pytest.mark.parametrize(
    ("options", "mode", "least"), [("size=512k", "--fill", 40), ("size=8m,nr_inodes=40", "--fill-inodes", 5)]
)
def test_a_small_disk_that_fills_at_any_moment(tmp_path: Path, options: str, mode: str, least: int) -> None:
    if os.geteuid() != 0 or not shutil.which("unshare"):
        pytest.skip("only root can mount a small disk")
    trial = subprocess.run(
        ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if trial.returncode != 0:
        pytest.skip("this sandbox mounts nothing")
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", MOUNTED, str(tmp_path), sys.executable, str(SCRIPT), options, mode],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > least


@contextmanager
def small_files_only() -> Iterator[None]:
    """Not as a fixture: the tests' own log, written between a test's phases, would be limited too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MODEL_BYTES // 2, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_beyond_the_limit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    with small_files_only(), pytest.raises(Failure, match=r"model\.gguf: the file grew past") as caught:
        build(root, "new")
    assert "ulimit" in caught.value.hint or "--out" in caught.value.hint
    assert visible_mark(root) is None
    assert not any(each.is_dir() for each in (root / ".staging").iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS])
def test_a_full_disk_met_by_anyone_in_the_block_is_a_failure_with_a_hint(tmp_path: Path, number: int) -> None:
    root = tmp_path / "artifacts"
    build(root, "old")
    with pytest.raises(Failure) as caught, Store(root).stage("tiny", "gguf-Q8_0", key_of("new")):
        raise OSError(number, os.strerror(number))  # as a writing thread does, knowing no file name
    assert caught.value.hint
    assert visible_mark(root) == "old"
    assert_recovers(root)


def test_other_faults_in_the_block_keep_their_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), Store(tmp_path).stage("tiny", "gguf-Q8_0", key_of("new")):
        raise FileNotFoundError(errno.ENOENT, "the source went away", "model.safetensors")


def test_a_disk_error_while_syncing_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    root = tmp_path / "artifacts"
    build(root, "old")
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", broken)
        with pytest.raises(Failure, match="the disk reports an error"):
            build(root, "new")
    assert visible_mark(root) == "old"
    assert_recovers(root)


def test_too_little_room_is_told_in_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_space(tmp_path / "not" / "yet", 1)
    monkeypatch.setattr(space, "free_bytes", lambda _: 250_000_000)
    with pytest.raises(Failure, match=r"1\.10 TB needed, 250 MB free") as caught:
        require_space(tmp_path, 1 << 40)
    assert "--only" in caught.value.hint


def test_blocks_are_reserved_not_just_promised(tmp_path: Path) -> None:
    with (tmp_path / "file").open("xb") as stream:
        allocate(stream.fileno(), 1 << 20, tmp_path / "file")
    about = (tmp_path / "file").stat()
    assert (about.st_size, about.st_blocks * 512) >= (1 << 20, 1 << 20)


def test_where_nothing_can_be_reserved_the_size_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with Store(tmp_path).stage("tiny", "gguf-Q8_0", key_of("new")) as staging:
        assert staging.allocate("model.gguf", 5000).stat().st_size == 5000
        assert staging.commit(manifest_of("new")).size_bytes == 5000

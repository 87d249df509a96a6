"""Builds that die, and builds side by side: what stands is always whole, and the next run cleans up."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from convert.store import Store, clean, read_manifest
from tests.store.building import (
    MARKER,
    RECIPE,
    TARGET,
    assert_recovers,
    build,
    key_of,
    prepare,
    visible_mark,
)

SCRIPT = Path(__file__).with_name("building.py")

# Every call through which a build touches the disk, in strace's words.
CALLS = (
    *("openat", "write", "pwrite64", "mkdir", "rename", "renameat2", "fsync", "fallocate", "flock"),
    *("unlink", "unlinkat", "rmdir", "close"),
)
FEW_CALLS = ("rename", "renameat2", "fallocate", "unlinkat")


def run(root: Path, mark: str, *mode: str, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run the script to its end."""
    command = [*prefix, sys.executable, "-P", str(SCRIPT), str(root), mark, *mode]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def start(root: Path, mark: str, *mode: str) -> subprocess.Popen[str]:
    """Run the script beside the test."""
    command = [sys.executable, "-P", str(SCRIPT), str(root), mark, *mode]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(
    ("mode", "fewest"),
    [("--sweep", 60), pytest.param("--sweep-without-exchange", 30, marks=pytest.mark.slow)],
)
def test_a_build_killed_ahead_of_any_call_leaves_the_old_the_new_or_nothing(
    quick_disk: Path, mode: str, fewest: int
) -> None:
    done = run(quick_disk / "artifacts", "new", mode)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= fewest


def strace_usable(tmp_path: Path) -> bool:
    if not shutil.which("strace"):
        return False
    log = tmp_path / "trial"
    traced = subprocess.run(
        ["strace", "-f", "-o", str(log), "-e", "trace=write", "true"], capture_output=True, check=False
    )
    return traced.returncode == 0


def places(root: Path, log: Path) -> list[tuple[str, int]]:
    """Each (system call, how manyth of its kind) that the main thread makes once the build has begun."""
    trace = ("strace", "-f", "-o", str(log), "-e", f"trace={','.join(CALLS)},stat,newfstatat")
    done = run(root, "new", prefix=trace)
    assert done.returncode == 0, done.stderr
    main_thread: str | None = None
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    has_begun = False
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        match = re.match(r"(\d+)\s+(\w+)\((.*)", line)
        if match is None:
            continue
        thread, call, arguments = match.groups()
        main_thread = main_thread or thread
        if MARKER in arguments:
            has_begun = True
        elif thread == main_thread and call in CALLS:
            seen[call] += 1
            if has_begun:
                found.append((call, seen[call]))
        elif call == "fsync":
            # The syncing threads count for themselves, and no one syncs before the build.
            found.append((call, 1))
    assert has_begun
    return list(dict.fromkeys(found))


def sweep_under_strace(tmp_path: Path, calls: tuple[str, ...], *, is_rebuild: bool) -> int:
    """Kill the whole process on entry to each of these calls; how often that happened."""
    if not strace_usable(tmp_path):
        pytest.skip("needs strace, and the right to trace: apt-get install strace")
    root, log = tmp_path / "artifacts", tmp_path / "log"
    prepare(root, is_rebuild=is_rebuild)
    run(root, "new")  # bytecode is cached from here on, so that the calls can be counted
    prepare(root, is_rebuild=is_rebuild)
    chosen = [place for place in places(root, log) if place[0] in calls]
    killed = 0
    for call, nth in chosen:
        prepare(root, is_rebuild=is_rebuild)
        inject = f"inject={call}:signal=KILL:when={nth}"
        done = run(root, "new", prefix=("strace", "-f", "-o", str(log), "-e", f"trace={call}", "-e", inject))
        was_killed = done.returncode != 0
        killed += was_killed
        allowed = {"old" if is_rebuild else None, "new"} if was_killed else {"new"}
        assert visible_mark(root) in allowed, (call, nth)
        assert_recovers(root)
    assert killed >= len(chosen) * 0.9  # a few may be made in another order than when they were counted
    return killed


def test_a_rebuild_killed_in_the_calls_that_matter_most_leaves_the_old_or_the_new(quick_disk: Path) -> None:
    assert sweep_under_strace(quick_disk, FEW_CALLS, is_rebuild=True) >= 5


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("is_rebuild", [False, True])
def test_a_build_killed_in_any_system_call_leaves_the_old_the_new_or_nothing(
    quick_disk: Path, *, is_rebuild: bool
) -> None:
    assert sweep_under_strace(quick_disk, CALLS, is_rebuild=is_rebuild) >= 40


def test_a_living_build_is_left_alone_and_a_killed_one_swept(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    build(root, "old")
    with start(root, "-", "--wait") as child:
        assert child.stdout is not None
        staging = Path(child.stdout.readline().strip())
        assert Store(root).sweep() == ()
        assert clean(root) == ()
        assert (staging / "model.gguf").is_file()
        child.send_signal(signal.SIGKILL)
    assert [each.path for each in clean(root, dry_run=True)] == [staging]
    assert staging.is_dir()
    assert [each.path for each in Store(root).sweep()] == [staging]
    assert visible_mark(root) == "old"
    assert_recovers(root)


def test_a_dead_build_with_the_process_id_of_a_living_one_is_swept(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    build(root, "old")
    left = root / ".staging" / f"{RECIPE}-{TARGET}-{os.getpid()}-00000000"
    left.mkdir()
    left.with_name(f"{left.name}.lock").write_text(f"{RECIPE}/{TARGET}", encoding="utf-8")
    without_lock = root / ".staging" / "orphan"
    without_lock.mkdir()
    assert {each.path for each in Store(root).sweep()} == {left, without_lock}
    assert_recovers(root)


def test_an_interrupted_build_leaves_nothing(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    build(root, "old")
    with start(root, "-", "--wait") as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        child.communicate()
    assert [each.name for each in (root / ".staging").iterdir()] == [".turn"]
    assert visible_mark(root) == "old"


def test_the_build_that_ends_last_wins(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    with start(root, "-", "--wait") as child:
        assert child.stdout is not None
        child.stdout.readline()
        build(root, "meanwhile")
        assert visible_mark(root) == "meanwhile"
        _, errors = child.communicate("\n")
    assert child.returncode == 0, errors
    assert visible_mark(root) == "waiting"
    assert Store(root).is_up_to_date(RECIPE, TARGET, key_of("waiting"))


def test_builds_side_by_side_are_never_seen_half_done(tmp_path: Path) -> None:
    root = tmp_path / "artifacts"
    build(root, "old")
    children = [start(root, mark, "--many") for mark in ("one", "two")]
    while any(child.poll() is None for child in children):
        read_manifest(root / RECIPE / TARGET)  # a Failure if there is a moment without
        time.sleep(0.001)
    for child in children:
        _, errors = child.communicate()
        assert child.returncode == 0, errors
    assert visible_mark(root) in {"one", "two"}
    assert [each.name for each in (root / ".staging").iterdir()] == [".turn"]

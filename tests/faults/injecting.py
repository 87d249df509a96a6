"""A fault at each system call by which a command meets the disk: what is there is whole, and it is said."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.faults.forking import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.forking import Ended, Forked

CALLS = (
    *("write", "pwrite64", "fsync", "openat", "mkdir", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2"),
)
FAULTS = ("signal=KILL", "error=ENOSPC", "error=EIO")
_CALL = re.compile(r'^(\d+)\s+(\w+)\((?:AT_FDCWD<[^>]*>, "([^"]*)")?', re.MULTILINE)
# What is read of the program itself: thousands of places that differ little, so of these only one in so many.
INSTALLED = tuple({str(ROOT / "convert"), str(ROOT / "verify"), sys.base_prefix, sys.prefix, "/usr", "/sys"})
OF_INSTALLED = 12


def tracing(folder: Path) -> None:
    """Skip the test where nothing may be traced."""
    if not shutil.which("strace"):
        pytest.skip("needs strace: apt-get install strace")
    trial = ["strace", "-f", "-o", str(folder / "trial"), "-e", "trace=write", "true"]
    if subprocess.run(trial, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to trace")


def places(run: Forked) -> list[tuple[str, int]]:
    """List each (call, how manyth of its kind in its thread) of a run to which nothing happens."""
    ended = run.run("-e", f"trace={','.join(CALLS)}")
    assert ended.status == 0, ended.said
    seen, of_installed = Counter[tuple[str, str]](), 0
    found: set[tuple[str, int]] = set()
    for thread, call, path in _CALL.findall(ended.trace):
        seen[thread, call] += 1
        is_installed = path.startswith(INSTALLED)
        of_installed += is_installed
        if not is_installed or of_installed % OF_INSTALLED == 0:
            found.add((call, seen[thread, call]))
    return sorted(found)


def sweep(
    run: Forked,
    prepare: Callable[[], None],
    check: Callable[[], str],
    left: Callable[[], None],
    *,
    every: int = 1,
) -> Counter[str]:
    """Meet every nth place with each fault, then run again; count what became of it.

    `check` says whether the "old" or the "new" is there, and fails for anything between; `left` fails if more
    than that is there after the run that follows.
    """
    prepare()
    found = places(run)
    assert check() == "new"
    counts, defects = Counter[str](places=len(found)), []
    for number, fault in enumerate(FAULTS):
        for call, nth in found[number * every // 3 :: every]:
            prepare()
            ended = run.run("-e", f"trace={call}", "-e", f"inject={call}:{fault}:when={nth}")
            try:
                if "INJECTED" not in ended.trace and ended.status != -9:
                    counts["not met"] += 1  # threads share the work out in another way each time
                    assert ended.status == 0
                else:
                    counts[fault] += 1
                    counts[f"{fault}: exit status {ended.status}"] += 1
                    _assert_plain(ended, run, fault)
                assert check() in (("new",) if ended.status == 0 else ("old", "new"))
                again = run.run()
                assert (again.status, again.said, check()) == (0, "", "new")
                left()
            except AssertionError as error:
                hits = [line[:300] for line in ended.trace.splitlines() if "INJECTED" in line]
                lines = (f"{call} {nth} {fault}: {ended.status}", *hits, ended.said[-2000:], str(error)[:500])
                defects.append("\n".join(lines))
    assert not defects, f"{len(defects)} defects\n" + "\n\n".join(defects)
    return counts


def _assert_plain(ended: Ended, run: Forked, fault: str) -> None:
    """An exit code, and lines for a person; none where the fault met these lines themselves."""
    if fault == "signal=KILL":
        assert ended.status == -9
        return
    assert ended.status in (0, 1, 2)  # 2 where the recipe cannot be read
    assert "Traceback" not in ended.said
    hits = [line for line in ended.trace.splitlines() if "INJECTED" in line]
    if ended.status and not any(f"<{run.said}>" in line for line in hits):
        assert list(_starts(ended.said)) in (["error:", "hint: "], ["error:"])


def _starts(said: str) -> Iterator[str]:
    return (line[:6] for line in said.splitlines() if line.strip())

"""A fault at each system call by which a command meets the disk: what is there is whole, and it is said."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import groupby, pairwise
from operator import itemgetter
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
# So many places of each call meet each fault, of hundreds where files are opened: `FAULTS=1000` takes all.
MOST = int(os.environ.get("FAULTS", "40"))
SEED = 0


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


def sample(found: list[tuple[str, int]], most: int, seed: str) -> list[tuple[str, int]]:
    """Choose so many places of each call, as far apart as that allows; the first and the last always."""
    draw, chosen = random.Random(seed), []
    for _, group in groupby(sorted(found), key=itemgetter(0)):
        places = list(group)
        inner, count = places[1:-1], most - 2
        if len(inner) <= count:
            chosen += places
            continue
        starts = [len(inner) * part // count for part in range(count + 1)]
        chosen += [places[0], *(inner[draw.randrange(*ends)] for ends in pairwise(starts)), places[-1]]
    return chosen


def sweep(
    run: Forked,
    prepare: Callable[[], None],
    check: Callable[[], str],
    left: Callable[[], None],
    *,
    every: int = 1,
    most: int = MOST,
) -> Counter[str]:
    """Meet every nth place of a sample with each fault, then run again; count what became of it.

    `check` says whether the "old" or the "new" is there, and fails for anything between; `left` fails if more
    than that is there after the run that follows.
    """
    prepare()
    found = places(run)
    assert check() == "new"
    counts, defects = Counter[str](places=len(found)), []
    of_calls = Counter(call for call, _ in found)
    tried = Counter({call: min(most, count) for call, count in of_calls.items()})
    shares = ", ".join(f"{call} {tried[call]} of {of_calls[call]}" for call in sorted(of_calls))
    print(f"\neach fault at every {every}. of: {shares} (seed {SEED})", flush=True)
    for number, fault in enumerate(FAULTS):
        for call, nth in sample(found, most, f"{SEED} {fault}")[number * every // 3 :: every]:
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
                print(defects[-1], flush=True)
        print({name: count for name, count in counts.items() if fault in name}, flush=True)
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

"""A sweep of mutants over one kind of file, in a child that may die or hang without ending the sweep."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
SILENCE_S = 120.0  # of wall time, on a busy machine; the child itself counts the seconds of its core


def sweep(names: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """Read so many mutants of each kind, and list the defects."""
    defects: list[str] = []
    left, start = list(names), 0
    while left:
        left, start = _run(left, seed, start, count, defects)
    return defects


def _run(names: list[str], seed: int, start: int, count: int, defects: list[str]) -> tuple[list[str], int]:
    """Run one child; return the kinds and the number of the mutant to go on with."""
    command = [sys.executable, "-m", "tests.faults.batch", ",".join(names), str(seed), str(start), str(count)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def follow() -> None:
        assert process.stdout
        with process.stdout:
            for line in process.stdout:
                lines.put(line.rstrip("\n"))
        lines.put(None)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    at, tail = None, ""
    try:
        while True:
            try:
                line = lines.get(timeout=SILENCE_S)
            except queue.Empty:
                line = None
                tail = f"nothing for {SILENCE_S:.0f} s"
            if line == "done":
                return [], 0
            if line is None:
                assert at, f"the child did not begin: {tail}"
                name, number = at
                defects.append(f"{name} {number}: the process died or hung: {tail}")
                return names[names.index(name) :], number + 1
            tail = line
            if line.startswith("at "):
                _, name, digits = line.split(" ")
                at = name, int(digits)
            elif line.startswith("defect "):
                defects.append(line.removeprefix("defect "))
    finally:
        process.kill()
        process.wait()
        follower.join()

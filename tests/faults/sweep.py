"""A sweep of mutants over one kind of file, in a child that may die or hang without ending the sweep."""

from __future__ import annotations

import queue
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).parents[2]
SILENCE_S = 120.0  # of wall time, on a busy machine; the child itself counts the seconds of its core


def sweep(name: str, count: int, seed: int = 0) -> list[str]:
    """Read so many mutants, and list the defects."""
    defects: list[str] = []
    start = 0
    while start < count:
        start = _run(name, seed, start, count, defects)
    return defects


def _run(name: str, seed: int, start: int, stop: int, defects: list[str]) -> int:
    """Run one child; return the number of the mutant to go on with."""
    command = [sys.executable, "-m", "tests.faults.batch", name, str(seed), str(start), str(stop)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def follow() -> None:
        assert process.stdout
        for line in process.stdout:
            lines.put(line.rstrip("\n"))
        lines.put(None)

    threading.Thread(target=follow, daemon=True).start()
    at, tail = start - 1, ""
    try:
        while True:
            try:
                line = lines.get(timeout=SILENCE_S)
            except queue.Empty:
                defects.append(f"{name} {at}: hangs")
                return at + 1
            if line == "done":
                return stop
            if line is None:
                assert at >= start, f"{name}: the child did not begin: {tail}"
                defects.append(f"{name} {at}: the process died ({process.wait()}): {tail}")
                return at + 1
            tail = line
            if line.startswith("at "):
                at = int(line.removeprefix("at "))
            elif line.startswith("defect "):
                defects.append(f"{name} {line.removeprefix('defect ')}")
    finally:
        process.kill()
        process.wait()

"""A process's memory seen from outside: its peaks, and a watch that stops it at its limit."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S = 0.03
FIELDS = frozenset({"VmRSS", "RssAnon", "RssShmem", "VmHWM"})


@dataclass(frozen=True)
class Usage:
    """What a process holds, in bytes."""

    rss: int
    anon: int  # and shared memory: all that no file stands behind
    peak_rss: int


@dataclass(frozen=True)
class Peaks:
    """The most that a child has held since it started; mapped weights are in RSS, not in anonymous memory."""

    rss_bytes: int
    anon_bytes: int


def usage(pid: int) -> Usage | None:
    """Read what the kernel says, or nothing of a process that is gone."""
    try:
        text = Path(f"/proc/{pid}/status").read_text("utf-8", "replace")
    except OSError:
        return None
    found = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name in FIELDS:
            found[name] = int(value.split()[0]) << 10
    if len(found) < len(FIELDS):  # a zombie has none of them
        return None
    return Usage(found["VmRSS"], found["RssAnon"] + found["RssShmem"], found["VmHWM"])


def descendants(pid: int) -> tuple[int, ...]:
    """The living children of a process, and theirs."""
    found: list[int] = []
    pending = [pid]
    while pending:
        parent = pending.pop()
        for path in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                born = [int(word) for word in path.read_text("ascii").split()]
            except OSError:
                continue
            found += born
            pending += born
    return tuple(found)


class MemoryWatch:
    """A thread that follows a child and its descendants, and says when they are over the limit."""

    def __init__(self, pid: int, limit_bytes: int, on_excess: Callable[[int], None]) -> None:
        self._pid = pid
        self._limit = limit_bytes
        self._on_excess = on_excess
        self._peaks = Peaks(0, 0)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="worker-memory", daemon=True)
        self._thread.start()

    def peaks(self) -> Peaks:
        """The most so far, this moment included while the child is watched."""
        if not self._stop.is_set():
            self._look()
        return self._peaks

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            anon = self._look()
            if anon > self._limit:
                self._on_excess(anon)
                return

    def _look(self) -> int:
        own = usage(self._pid)
        if own is None:
            return 0
        others = [seen for pid in descendants(self._pid) if (seen := usage(pid)) is not None]
        anon = own.anon + sum(other.anon for other in others)
        with self._lock:
            self._peaks = Peaks(
                max(self._peaks.rss_bytes, own.peak_rss + sum(other.rss for other in others)),
                max(self._peaks.anon_bytes, anon),
            )
        return anon

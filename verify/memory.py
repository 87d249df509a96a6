"""A process's memory seen from outside: its peaks, and a watch that stops it at its limit."""

from __future__ import annotations

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_S = 0.03
# Looking for children costs more than looking at a process, and none of our runtimes has any.
LOOKS_PER_SEARCH = 8
FIELDS = re.compile(rb"^(VmHWM|VmRSS|RssAnon|RssShmem):\s+(\d+) kB$", re.MULTILINE)


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
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123  (done all the time)
            found = {name: int(size) << 10 for name, size in FIELDS.findall(file.read())}
    except OSError:
        return None
    if len(found) < 4:  # a zombie has none of them
        return None
    return Usage(found[b"VmRSS"], found[b"RssAnon"] + found[b"RssShmem"], found[b"VmHWM"])


def descendants(pid: int) -> tuple[int, ...]:
    """The living children of a process, and theirs."""
    found: list[int] = []
    pending = [pid]
    while pending:
        parent = pending.pop()
        for thread in _threads(parent):
            try:
                born = [
                    int(word) for word in Path(f"/proc/{parent}/task/{thread}/children").read_bytes().split()
                ]
            except OSError:
                continue
            found += born
            pending += born
    return tuple(found)


def _threads(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/task")  # noqa: PTH208  (numbers; and this is done all the time)
    except OSError:
        return []


class MemoryWatch:
    """A thread that follows a child and its descendants, and says when they are over the limit."""

    def __init__(self, pid: int, limit_bytes: int, on_excess: Callable[[int], None]) -> None:
        self._pid = pid
        self._limit = limit_bytes
        self._on_excess = on_excess
        self._peaks = Peaks(0, 0)
        self._others: tuple[int, ...] = ()
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
        looks = 0
        while not self._stop.wait(INTERVAL_S):
            if looks % LOOKS_PER_SEARCH == 0:
                self._others = descendants(self._pid)
            looks += 1
            anon = self._look()
            if anon > self._limit:
                self._on_excess(anon)
                return

    def _look(self) -> int:
        own = usage(self._pid)
        if own is None:
            return 0
        others = [seen for pid in self._others if (seen := usage(pid)) is not None]
        anon = own.anon + sum(other.anon for other in others)
        with self._lock:
            self._peaks = Peaks(
                max(self._peaks.rss_bytes, own.peak_rss + sum(other.rss for other in others)),
                max(self._peaks.anon_bytes, anon),
            )
        return anon

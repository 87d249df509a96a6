"""A process's memory seen from outside: its peaks, a watch that reports an excess, and what is available."""

from __future__ import annotations

import os
import re
import threading
from contextlib import suppress
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
    """The memory of a process, in bytes."""

    rss: int
    anon: int  # and shared memory: all that no file backs
    peak_rss: int


@dataclass(frozen=True)
class Peaks:
    """The most that a child has held since it started; mapped weights count as RSS, not as anonymous."""

    rss_bytes: int
    anon_bytes: int


def usage(pid: int) -> Usage | None:
    """Read the memory of a process; None where it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123  (done all the time)
            found = {name: int(size) << 10 for name, size in FIELDS.findall(file.read())}
    except OSError:
        return None
    if len(found) < 4:  # a zombie has none of them
        return None
    return Usage(found[b"VmRSS"], found[b"RssAnon"] + found[b"RssShmem"], found[b"VmHWM"])


def descendants(pid: int) -> tuple[int, ...]:
    """List the living children of a process, and theirs."""
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
    """A thread that follows a child and its descendants, and calls back when they are over the limit."""

    def __init__(self, pid: int, limit_bytes: float, on_excess: Callable[[int], None]) -> None:
        self._pid = pid
        self._limit = limit_bytes
        self._on_excess = on_excess
        self._peaks = Peaks(0, 0)
        self._others: tuple[int, ...] = ()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="child-memory", daemon=True)
        self._thread.start()

    def peaks(self) -> Peaks:
        """Return the most so far, this moment included while the child is watched."""
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


def available_memory() -> int:
    """Return what the machine can still give, or the container if that is less."""
    spare = [_meminfo("MemAvailable")]
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
        reclaimable = 0
        for line in Path("/sys/fs/cgroup/memory.stat").read_text("ascii").splitlines():
            if line.startswith("inactive_file "):
                reclaimable = int(line.split()[1])
        spare.append(limit - used + reclaimable)
    return max(0, min(spare))


def _meminfo(key: str) -> int:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) << 10
    raise ValueError(key)

"""Run commands in turns, and see from outside what each costs: time, memory, and bytes read and written."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

GLANCE_S = 0.05  # between looks at the memory: each look at ten gigabytes takes a millisecond
SHOWN_LINES = 15  # of a command that fails


@dataclass(frozen=True)
class Cost:
    """What a command, with all that it starts, takes."""

    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    peak_anon_bytes: int
    read_bytes: int  # from the disk: what is in memory already costs nothing
    written_bytes: int  # to files, whether the disk has it yet or not

    def then(self, other: Cost) -> Cost:
        """Add what a command after it takes."""
        return Cost(
            self.wall_s + other.wall_s,
            self.cpu_s + other.cpu_s,
            max(self.peak_rss_bytes, other.peak_rss_bytes),
            max(self.peak_anon_bytes, other.peak_anon_bytes),
            self.read_bytes + other.read_bytes,
            self.written_bytes + other.written_bytes,
        )


NAMES = tuple(each.name for each in fields(Cost))


@dataclass(frozen=True)
class Route:
    """One way to a result: commands, one after the other, and what they leave."""

    commands: tuple[tuple[str, ...], ...]
    leaves: tuple[Path, ...]  # is removed before
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self) -> Cost:
        """Run the commands on a disk that has nothing left to write of what was before."""
        for path in self.leaves:
            shutil.rmtree(path, ignore_errors=True)
            path.unlink(missing_ok=True)
        os.sync()
        total: Cost | None = None
        for command in self.commands:
            cost = measure(command, self.environment)
            total = total.then(cost) if total else cost
        assert total
        return total


def in_turns(
    routes: Mapping[str, Route], rounds: int, seen: Callable[[str, int, Cost], None]
) -> dict[str, list[Cost]]:
    """Run each route once a round, another one first each time; a machine that slows down slows all."""
    found: dict[str, list[Cost]] = {name: [] for name in routes}
    names = list(routes)
    for number in range(rounds):
        at = number % len(names)
        for name in (*names[at:], *names[:at]):
            found[name].append(routes[name].run())
            seen(name, number, found[name][-1])
    return found


def forget(paths: Sequence[Path]) -> None:
    """Take files out of the memory of the kernel, so that what reads them reads the disk."""
    os.sync()
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def measure(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Cost:
    """Run a command that must succeed."""
    began_s = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})}
    )
    watch = _Watch(process.pid)
    watch.start()
    assert process.stdout
    with process.stdout as stream:
        said = stream.read()
    # It has ended, and is still there to be asked.
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    wall_s = time.perf_counter() - began_s
    moved = _moved(process.pid)
    watch.stop()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        tail = "\n".join(said.decode(errors="replace").splitlines()[-SHOWN_LINES:])
        sys.exit(f"{' '.join(command)}: exit status {process.returncode}\n{tail}")
    return Cost(
        wall_s,
        usage.ru_utime + usage.ru_stime,
        watch.rss_bytes,  # not ru_maxrss, which begins with what this process has
        watch.anon_bytes,
        moved["read_bytes"],
        max(moved["wchar"], moved["write_bytes"]),
    )


class _Watch(threading.Thread):
    """Looks at the memory of a process and its descendants, again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._pid = pid
        self._over = threading.Event()
        self.rss_bytes = self.anon_bytes = 0

    def run(self) -> None:
        while not self._over.wait(GLANCE_S):
            pids = list(_tree(self._pid))
            looks = [_memory(pid) for pid in pids]
            peaks = (_lines(f"/proc/{pid}/status").get("VmHWM", 0) for pid in pids)
            self.rss_bytes = max(self.rss_bytes, sum(rss for rss, _ in looks), *peaks)
            self.anon_bytes = max(self.anon_bytes, sum(anonymous for _, anonymous in looks))

    def stop(self) -> None:
        self._over.set()
        self.join()


def _tree(pid: int) -> Iterator[int]:
    yield pid
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from _tree(int(child))
    except OSError:  # it has ended
        return


def _memory(pid: int) -> tuple[int, int]:
    """Read resident and anonymous bytes; what several processes share counts for each a part."""
    found = _lines(f"/proc/{pid}/smaps_rollup")
    return found.get("Pss", 0), found.get("Anonymous", 0)


def _lines(path: str) -> dict[str, int]:
    """Read the sizes of a file in /proc, as bytes; nothing of a process that has ended."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines if line.endswith(" kB"))
    return {name: int(value.split()[0]) << 10 for name, _, value in pairs}


def _moved(pid: int) -> dict[str, int]:
    """Read what a process that has ended, and those that it has waited for, have read and written."""
    pairs = (line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return {name: int(value) for name, value in pairs}

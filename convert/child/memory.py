"""The memory of processes, and what the machine has left of it."""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

FIELDS = re.compile(rb"^(VmHWM|VmRSS|RssAnon|RssShmem):\s+(\d+) kB$", re.MULTILINE)


@dataclass(frozen=True)
class Usage:
    """The memory of a process, in bytes, and whether a signal keeps it stopped."""

    rss: int
    anon: int  # and shared memory: all that no file backs
    peak_rss: int
    is_stopped: bool = False


@dataclass(frozen=True)
class Peaks:
    """The most that a child has held since it started; mapped weights count as RSS, not as anonymous."""

    rss_bytes: int
    anon_bytes: int


def usage(pid: int) -> Usage | None:
    """Read the memory of a process; None where it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:  # noqa: PTH123  (done all the time)
            status = file.read()
    except OSError:
        return None
    found = {name: int(size) << 10 for name, size in FIELDS.findall(status)}
    if len(found) < 4:  # a zombie has none of them
        return None
    anon = found[b"RssAnon"] + found[b"RssShmem"]
    return Usage(found[b"VmRSS"], anon, found[b"VmHWM"], b"\nState:\tT" in status)


def descendants(pid: int) -> tuple[int, ...]:
    """List the living children of a process, and theirs."""
    found: list[int] = []
    pending = [pid]
    while pending:
        with suppress(OSError):  # it is gone
            for path in Path(f"/proc/{pending.pop()}/task").iterdir():
                with suppress(OSError):  # this thread is
                    born = [int(word) for word in (path / "children").read_bytes().split()]
                    found += born
                    pending += born
    return tuple(found)


def available_memory() -> int:
    """Return what the machine can still give, or the container if that is less."""
    spare = [_figure("/proc/meminfo", "MemAvailable:") << 10]
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        limit = _figure("/sys/fs/cgroup/memory.max")
        used = _figure("/sys/fs/cgroup/memory.current")
        spare.append(limit - used + _figure("/sys/fs/cgroup/memory.stat", "inactive_file"))
    return max(0, min(spare))


def _figure(path: str, name: str = "") -> int:
    """Read the number after a name at the start of a line; ValueError where there is none."""
    found = re.search(rf"^{name}\s*(\d+)", Path(path).read_text("ascii"), re.MULTILINE)
    if found is None:
        raise ValueError(name)
    return int(found[1])

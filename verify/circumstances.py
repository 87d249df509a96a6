"""Circumstances of a measurement: its date, and how busy other programs kept the machine meanwhile."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

STAT = Path("/proc/stat")  # a line for each processor counts its time, by what it did
# What is no work: idle, waiting for a disk; and time of guests, which is in the user's already.
IDLE, GUESTS = (3, 4), 8


@dataclass(frozen=True)
class Circumstances:
    """What a reader must know before comparing a speed with another."""

    date: str  # year, month, day
    others_cores: float | None  # kept busy by other programs, on average; None where no system says so
    cores: int  # that the measurement could use

    @property
    def is_busy(self) -> bool:
        """Return whether other programs took more than half of the cores."""
        return self.others_cores is not None and self.others_cores > self.cores / 2


class Observer:
    """Watch the machine from now until it is asked."""

    def __init__(self) -> None:
        self._busy_s, self._own_s, self._start_s = _busy_s(), _own_s(), time.monotonic()

    def circumstances(self) -> Circumstances:
        """Sum up; children's work counts as our own once they have ended."""
        took_s, own_s, busy_s = time.monotonic() - self._start_s, _own_s() - self._own_s, _busy_s()
        others = None
        if self._busy_s is not None and busy_s is not None and took_s > 0:
            others = round(max(0.0, busy_s - self._busy_s - own_s) / took_s, 2)
        return Circumstances(f"{datetime.now(UTC):%Y-%m-%d}", others, len(os.sched_getaffinity(0)))


def _busy_s() -> float | None:
    """Return how long the processors that this process may use were busy since the system's start."""
    names = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    try:
        lines = [line.split() for line in STAT.read_text("ascii").splitlines()]
        counts = [list(map(int, words[1 : 1 + GUESTS])) for words in lines if words and words[0] in names]
    except (OSError, ValueError):
        return None
    busy = (count for each in counts for place, count in enumerate(each) if place not in IDLE)
    return sum(busy) / os.sysconf("SC_CLK_TCK") if counts else None


def _own_s() -> float:
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system

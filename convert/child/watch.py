"""A process seen from outside: what it prints is read and kept in part, memory and stops are followed."""

import os
import select
import threading
import time
from collections.abc import Callable

from convert.child.fault import FaultKind
from convert.child.limits import Limits
from convert.child.memory import Peaks, descendants, usage
from convert.child.pulse import Pulse
from convert.size import size

INTERVAL_S = 0.03
# Looking for children costs more than looking at a process, and none of our runtimes has any.
LOOKS_PER_SEARCH = 8
KEPT_BYTES = 64 << 10
LINE_CHARS = 500


class Watch:
    """A thread that reads a process's output, so that it never blocks, and reports when it takes too much."""

    def __init__(
        self, pid: int, output: int, limits: Limits, on_excess: Callable[[FaultKind, str], None]
    ) -> None:
        os.set_blocking(output, False)
        self._pid, self._output = pid, output
        self._output_limit, self._memory_limit = limits.output_bytes, limits.watched_bytes
        self._on_excess = on_excess
        self._kept = bytearray()
        self._total = 0
        self._peaks = Peaks(0, 0)
        self._others: tuple[int, ...] = ()
        self._pulse: Pulse | None = None  # the thread's, while it runs
        self._stopped_s = 0.0
        self._is_over = self._is_closed = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="child-watch", daemon=True)
        self._thread.start()

    def peaks(self) -> Peaks:
        """Return the most memory so far, this moment included while the process is watched."""
        if not self._stop.is_set():
            self._look()
        return self._peaks

    def stopped_s(self) -> float:
        """Return how long so far the process or this one was stopped: what is measured then says nothing."""
        pulse = self._pulse
        return self._stopped_s + (0.0 if pulse is None else pulse.stopped_s())

    def printed(self) -> bytes:
        """Return the last of what it printed so far."""
        with self._lock:
            if not self._is_closed:
                self._take()
            return bytes(self._kept)

    def lines(self) -> tuple[str, ...]:
        """Return the last lines so far, as text that is safe to print."""
        text = self.printed().decode("utf-8", "replace")
        lines = ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines()]
        return tuple(line[:LINE_CHARS] for line in lines if line)

    def close(self) -> None:
        """Stop, take what the pipe still holds, and close it."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._take()
            self._is_closed = True
            os.close(self._output)
        self._check_output()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        self._pulse = pulse = Pulse()
        is_open, looked_s, looks = True, 0.0, 0
        while not self._stop.is_set():
            pulse.beat()
            if not is_open:
                self._stop.wait(INTERVAL_S)
            elif poll.poll(1000 * INTERVAL_S):
                with self._lock:
                    is_open = self._take()
                self._check_output()
            if (now_s := time.monotonic()) - looked_s >= INTERVAL_S:
                if looks % LOOKS_PER_SEARCH == 0:
                    self._others = descendants(self._pid)
                looked_s, looks = now_s, looks + 1
                if (anon := self._look()) > self._memory_limit:
                    self._report(
                        FaultKind.OUT_OF_MEMORY, f"it took {size(anon)} of memory", self._memory_limit
                    )
        self._stopped_s += pulse.stopped_s()
        self._pulse = None

    def _take(self) -> bool:
        """Read what the pipe holds, at most this much; tell whether more can come.

        The thread may not have come to what a child wrote before it answered or ended, so those who ask for
        its lines read too.
        """
        try:
            got = os.read(self._output, 1 << 16)
        except BlockingIOError:  # the other reader was quicker
            return True
        self._kept += got
        del self._kept[:-KEPT_BYTES]
        self._total += len(got)
        return bool(got)

    def _look(self) -> int:
        own = usage(self._pid)
        if own is None:
            return 0
        others = [seen for pid in self._others if (seen := usage(pid)) is not None]
        anon = own.anon + sum(other.anon for other in others)
        rss = own.peak_rss + sum(other.rss for other in others)
        with self._lock:
            self._stopped_s += INTERVAL_S if any(each.is_stopped for each in (own, *others)) else 0.0
            self._peaks = Peaks(max(self._peaks.rss_bytes, rss), max(self._peaks.anon_bytes, anon))
        return anon

    def _check_output(self) -> None:
        if self._total > self._output_limit:
            self._report(FaultKind.FLOODED, f"it printed {size(self._total)}", self._output_limit)

    def _report(self, kind: FaultKind, what: str, limit_bytes: float) -> None:
        if not self._is_over:
            self._is_over = True
            self._on_excess(kind, f"{what}, and {size(int(limit_bytes))} are allowed")

"""What a child prints: read always, kept in part, so that a flood neither blocks it nor fills the parent."""

from __future__ import annotations

import os
import selectors
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT_BYTES = 64 << 10
TAIL_LINES = 20
LINE_CHARS = 500


class Drain:
    """A thread that reads the child's stdout and stderr and keeps the last of each."""

    def __init__(self, stdout: int, stderr: int, limit_bytes: int, on_flood: Callable[[int], None]) -> None:
        self._kept = {stdout: bytearray(), stderr: bytearray()}
        for fd in self._kept:
            os.set_blocking(fd, False)
        self._stderr = stderr
        self._limit = limit_bytes
        self._on_flood = on_flood
        self._total = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="worker-output", daemon=True)
        self._thread.start()

    def tail(self) -> tuple[str, ...]:
        """The last lines of stderr so far, as text that is safe to print."""
        with self._lock:
            if not self._is_closed:
                self._take(self._stderr)
            text = self._kept[self._stderr].decode("utf-8", "replace")
        lines = ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines()]
        return tuple(line[:LINE_CHARS] for line in lines if line)[-TAIL_LINES:]

    def settle(self, seconds: float) -> None:
        """Wait until both pipes are at their end, which a living grandchild can put off."""
        self._thread.join(seconds)

    def close(self) -> None:
        """Stop reading and close both pipes."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._take(self._stderr)
            self._is_closed = True
            for fd in self._kept:
                os.close(fd)

    def _take(self, fd: int) -> bool:
        """Read what the pipe holds, which is no more than this; says whether more can come.

        The thread may not have come to what a child wrote before it answered or ended, so whoever wants its
        words reads too.
        """
        try:
            got = os.read(fd, 1 << 16)
        except BlockingIOError:  # the other reader was quicker
            return True
        kept = self._kept[fd]
        kept += got
        del kept[:-KEPT_BYTES]
        self._total += len(got)
        return bool(got)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for fd in self._kept:
                selector.register(fd, selectors.EVENT_READ)
            while selector.get_map() and not self._stop.is_set():
                for key, _ in selector.select(0.05):
                    with self._lock:
                        can_come = self._take(key.fd)
                    if not can_come:
                        selector.unregister(key.fd)
                if self._total > self._limit:
                    self._on_flood(self._total)
                    self._limit = self._total * 1000

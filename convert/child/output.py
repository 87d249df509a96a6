"""What a child prints: always read, so that it never blocks, and kept in part, so that floods do no harm."""

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


class Output:
    """A thread that reads a child's stdout and stderr and keeps the last of each."""

    def __init__(self, stdout: int, stderr: int, limit_bytes: int, on_flood: Callable[[int], None]) -> None:
        self._kept = {stdout: bytearray(), stderr: bytearray()}
        for fd in self._kept:
            os.set_blocking(fd, False)
        self._stdout, self._stderr = stdout, stderr
        self._limit = limit_bytes
        self._on_flood = on_flood
        self._total = 0
        self._is_closed = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="child-output", daemon=True)
        self._thread.start()

    def stdout(self) -> bytes:
        """Return the last bytes of stdout, once closed."""
        return bytes(self._kept[self._stdout])

    def lines(self) -> tuple[str, ...]:
        """Return the last lines of stderr so far, as text that is safe to print."""
        with self._lock:
            if not self._is_closed:
                self._take(self._stderr)
            text = self._kept[self._stderr].decode("utf-8", "replace")
        lines = ["".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines()]
        return tuple(line[:LINE_CHARS] for line in lines if line)

    def close(self) -> None:
        """Stop reading, take what the pipes still hold, and close both."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            self._is_closed = True
            for fd in self._kept:
                self._take(fd)
                os.close(fd)
        self._check()

    def _take(self, fd: int) -> bool:
        """Read what the pipe holds, at most this much; tell whether more can come.

        The thread may not have come to what a child wrote before it answered or ended, so those who ask for
        its lines read too.
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
                self._check()

    def _check(self) -> None:
        if self._total > self._limit:
            self._on_flood(self._total)
            self._limit = self._total * 1000  # once is enough

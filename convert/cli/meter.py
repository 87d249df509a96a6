"""Progress for people: a bar on a terminal, a line now and then in a pipe."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TextIO

from convert.cli.stream import forgiving
from convert.cli.text import duration, rate
from convert.progress import Progress, Silent
from convert.size import size

_LINE_EVERY_S = 5.0
WORTH_A_LINE_S = 0.1  # what was over before it could be read needs no line


def meter(*, is_shown: bool, stream: TextIO | None = None) -> Progress:
    """Choose the progress display that suits the stream, stderr by default."""
    stream = stream or sys.stderr
    if not is_shown:
        return Silent()
    if stream.isatty() and os.environ.get("TERM") != "dumb":
        from convert.cli.bar import Bars  # noqa: PLC0415 - rich costs 60 ms

        return Bars(stream)
    return Lines(stream)


class Lines:
    """A line when a stage ends, and while a long one runs."""

    def __init__(
        self, stream: TextIO, every_s: float = _LINE_EVERY_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = forgiving(stream)
        self._every_s = every_s
        self._clock = clock

    @contextmanager
    def stage(self, label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Open a stage; a stage that fails ends without its last line."""
        lock = Lock()
        began = said = self._clock()
        done_bytes = 0

        def advance(more_bytes: int) -> None:
            nonlocal done_bytes, said
            with lock:
                done_bytes += more_bytes
                now = self._clock()
                if now - said < self._every_s or done_bytes >= total_bytes:
                    return
                said = now
                self._say(self._midway(label, done_bytes, total_bytes, now - began))

        yield advance
        took_s = self._clock() - began
        if took_s >= WORTH_A_LINE_S:
            self._say(f"{label}: {size(done_bytes)} in {duration(took_s)} ({rate(done_bytes, took_s)})")

    @staticmethod
    def _midway(label: str, done_bytes: int, total_bytes: int, took_s: float) -> str:
        left_s = took_s * (total_bytes - done_bytes) / done_bytes if done_bytes > 0 else None
        left = f", {duration(round(left_s))} left" if left_s is not None else ""
        share = f"{100 * done_bytes // total_bytes:3d} %"
        amounts = f"{size(done_bytes)} of {size(total_bytes)}"
        return f"{label}: {share}, {amounts}, {rate(done_bytes, took_s)}{left}"

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

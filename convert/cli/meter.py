"""Progress for people: a bar on a terminal, a line now and then in a pipe."""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Event, Lock, Thread
from typing import TextIO

from convert.cli.stream import forgiving
from convert.cli.text import rate
from convert.progress import Progress, Silent
from convert.size import duration, size

_FIRST_LINE_S, LINE_EVERY_S = 2.0, 30.0
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
    """A line when a stage ends, and every half a minute of a long one, whether its work goes on or not."""

    def __init__(
        self,
        stream: TextIO,
        every_s: float = LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
        first_s: float = _FIRST_LINE_S,
    ) -> None:
        self._stream = forgiving(stream)
        self._every_s = every_s
        self._first_s = min(first_s, every_s)
        self._clock = clock
        self._expected: dict[str, float] = {}

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Hear of the stages to come, in their order, by their labels."""
        self._expected = dict(seconds)

    @contextmanager
    def stage(self, label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Open a stage; a stage that fails ends without its last line."""
        lock, is_over = Lock(), Event()
        began, due = self._clock(), self._clock() + self._first_s
        done_bytes = 0

        def look(more_bytes: int = 0) -> None:
            nonlocal done_bytes, due
            with lock:
                done_bytes += more_bytes
                now = self._clock()
                if now < due or done_bytes >= total_bytes > 0 or is_over.is_set():
                    return
                due = now + self._every_s
                self._say(self._midway(label, done_bytes, total_bytes, now - began))

        def beat() -> None:
            while not is_over.wait(min(self._first_s, 1.0)):
                look()

        # A tool may be silent for minutes, and a person should not think that it is dead.
        Thread(target=beat, name="heartbeat", daemon=True).start()
        try:
            yield look
        finally:
            is_over.set()
        took_s = self._clock() - began
        if took_s >= WORTH_A_LINE_S:
            self._say(f"{label}: {size(done_bytes)} in {duration(took_s)} ({rate(done_bytes, took_s)})")

    def _midway(self, label: str, done_bytes: int, total_bytes: int, took_s: float) -> str:
        left_s = took_s * (total_bytes - done_bytes) / done_bytes if done_bytes > 0 else None
        if left_s is None and label in self._expected:
            left_s = max(0.0, self._expected[label] - took_s)
        left = f", {duration(round(left_s))} left" if left_s is not None else ""
        share = f"{100 * done_bytes // max(1, total_bytes):3d} %"
        amounts = f"{size(done_bytes)} of {size(total_bytes)}"
        return f"{label}: {share}, {amounts}, {rate(done_bytes, took_s)}{left}{self._then(label)}"

    def _then(self, label: str) -> str:
        """Say what comes after a stage, where that takes a while."""
        labels = list(self._expected)
        later = labels[labels.index(label) + 1 :] if label in labels else []
        later_s = sum(self._expected[each] for each in later)
        if later_s < self._every_s:
            return ""
        return f", then {' and '.join(later)}, about {duration(round(later_s))}"

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)

"""Jobs in parallel threads, all stopped by the first failure or by Ctrl-C."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import TypeVar

from convert.source.retry import Stopped

T = TypeVar("T")
_GRACE_S = 0.3


@dataclass(frozen=True)
class Watch:
    """The progress callback and the stop signal that all threads share."""

    report: Callable[[int], None]
    stop: Event = field(default_factory=Event)

    def advance(self, size_bytes: int) -> None:
        """Report bytes as done; a negative number takes back those that must be fetched again."""
        if not self.stop.is_set():
            self.report(size_bytes)

    def check(self) -> None:
        """Raise Stopped if the work should end."""
        if self.stop.is_set():
            raise Stopped


def run_all(jobs: Sequence[Callable[[], T]], watch: Watch, threads: int) -> list[T]:
    """Return the jobs' results in their order; the first exception stops the rest and is raised."""
    todo: SimpleQueue[int] = SimpleQueue()
    done: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()
    for index in range(len(jobs)):
        todo.put(index)

    def work() -> None:
        while not watch.stop.is_set():
            try:
                index = todo.get_nowait()
            except Empty:
                return
            try:
                done.put((index, jobs[index]()))
            except BaseException as error:  # noqa: BLE001  raised again in the caller's thread
                done.put((index, error))

    # Daemons, since one may wait for a silent server when the process should end after Ctrl-C.
    workers = [Thread(target=work, daemon=True) for _ in range(min(threads, len(jobs)))]
    results: dict[int, T] = {}
    try:
        for thread in workers:
            thread.start()
        while len(results) < len(jobs):
            index, result = done.get()
            if isinstance(result, BaseException):
                raise result
            results[index] = result
    finally:
        watch.stop.set()
        deadline_s = time.monotonic() + _GRACE_S
        for thread in workers:
            thread.join(max(0.0, deadline_s - time.monotonic()))
    return [results[index] for index in range(len(jobs))]

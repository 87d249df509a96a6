"""Work on several files at once, ended at once by the first failure or by Ctrl-C."""

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
    """What all threads of a piece of work share: who is told of bytes, and who says stop."""

    tell: Callable[[int], None]
    stop: Event = field(default_factory=Event)

    def advance(self, size_bytes: int) -> None:
        """Tell of bytes done; of a negative number when they turned out wrong and are fetched again."""
        if not self.stop.is_set():
            self.tell(size_bytes)

    def check(self) -> None:
        """End the caller's work if it is over."""
        if self.stop.is_set():
            raise Stopped


def run_all(jobs: Sequence[Callable[[], T]], watch: Watch, threads: int) -> list[T]:
    """The jobs' results in their order; the first exception stops the rest and is raised."""
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

    # Daemons: one that waits for a silent server must not keep the process alive after Ctrl-C.
    crew = [Thread(target=work, daemon=True) for _ in range(min(threads, len(jobs)))]
    results: dict[int, T] = {}
    try:
        for thread in crew:
            thread.start()
        while len(results) < len(jobs):
            index, result = done.get()
            if isinstance(result, BaseException):
                raise result
            results[index] = result
    finally:
        watch.stop.set()
        deadline_s = time.monotonic() + _GRACE_S
        for thread in crew:
            thread.join(max(0.0, deadline_s - time.monotonic()))
    return [results[index] for index in range(len(jobs))]

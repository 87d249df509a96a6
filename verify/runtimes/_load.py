"""Many requests to a server: by users who each wait for their answer, or as they happen to come."""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

from convert.errors import Failure
from verify.runtimes import Outcome, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from verify.runtimes import Piece

    # Asks, and yields the pieces with their times since the given one.
    Ask = Callable[[Request, float], Iterator[Piece]]


def run_load(
    ask: Ask, requests: Sequence[Request], users: int | None, due_s: Sequence[float]
) -> Generator[Outcome, None, None]:
    """Ask all requests, and yield what became of each as it ends.

    `users` ask one after the other, without a pause; with none, each request is asked when it is due, however
    many are under way, and its times count from then.
    """
    ended: queue.Queue[Outcome] = queue.Queue()
    start = time.perf_counter()
    pending: Iterator[tuple[int, Request]] = iter(enumerate(requests))
    lock = threading.Lock()

    def follow(index: int, request: Request, due: float) -> None:
        ended.put(_outcome(ask, index, request, due, start))

    def use() -> None:
        while True:
            with lock:
                index, request = next(pending, (-1, None))
            if request is None:
                return
            follow(index, request, time.perf_counter() - start)

    if users is not None:
        for _ in range(users):
            threading.Thread(target=use, daemon=True).start()
    else:
        threading.Thread(target=_arrive, args=(follow, requests, due_s, start), daemon=True).start()
    for _ in requests:
        yield ended.get()


def _arrive(
    follow: Callable[[int, Request, float], None],
    requests: Sequence[Request],
    due_s: Sequence[float],
    start: float,
) -> None:
    for index, (request, due) in enumerate(zip(requests, due_s, strict=True)):
        time.sleep(max(0.0, start + due - time.perf_counter()))
        threading.Thread(target=follow, args=(index, request, due), daemon=True).start()


def _outcome(ask: Ask, index: int, request: Request, due: float, start: float) -> Outcome:
    first: float | None = None
    parts: list[str] = []
    tokens, pieces, fault = None, 0, None
    try:
        for piece in ask(request, start):
            if piece.text:
                first = piece.t_s if first is None else first
                pieces += 1
                parts.append(piece.text)
            tokens = piece.tokens if piece.tokens is not None else tokens
    except Failure as failure:
        fault = failure.message
    except Exception as error:  # noqa: BLE001  (a thread's error must reach the one who waits for it)
        fault = f"{type(error).__name__}: {error}"
    count = pieces if tokens is None else tokens
    return Outcome(index, due, first, time.perf_counter() - start, count, "".join(parts), fault)

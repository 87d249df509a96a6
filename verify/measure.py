"""Speed and memory of several artifacts, measured in turns, so that a noisy minute hits all of them."""

from __future__ import annotations

import random
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from convert.child import ChildFailure, available_memory
from verify.circumstances import Observer
from verify.runtimes import Request
from verify.sample import Samples
from verify.servers import find_server
from verify.undisturbed import undisturbed
from verify.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from convert.child import Fault
    from verify.runtimes import Info, Piece, Tick
    from verify.sample import Measured
    from verify.worker import Launch


@dataclass(frozen=True)
class SpeedPlan:
    """How much is measured; every artifact gets the same."""

    prompt_tokens: int = 256
    answer_tokens: int = 64
    openings: int = 2  # each in a new process: its place in memory differs, and so does its speed
    rounds: int = 3  # repetitions per opening, after a warm-up
    concurrency: tuple[int, ...] = (1, 4, 10)
    concurrent_tokens: int = 100
    concurrent_prompt_tokens: int = 32
    seed: int = 0

    def once(self) -> SpeedPlan:
        """Return the same with one opening at most."""
        return replace(self, openings=min(1, self.openings))


def measure_in_turns(
    launches: Mapping[str, Launch],
    plan: SpeedPlan | None = None,
    *,
    once: Collection[str] = (),
    keeps_open: bool | None = None,
) -> dict[str, Measured | Fault]:
    """Measure each artifact; one that fails leaves the rounds, and has its fault instead of figures.

    Those in `once`, which no gate judges, are opened once only.
    Only one works at a time. They stay open between their turns where there is room for all, or where
    `keeps_open` says so; else a turn is an opening with all of its repetitions.
    """
    plan = plan or SpeedPlan()
    stays = fits_together(launches.values()) if keeps_open is None else keeps_open
    entries = {
        name: _Entry(launch, plan.once() if name in once else plan) for name, launch in launches.items()
    }
    order = deque(entries.values())

    def in_turns(steps: Sequence[Callable[[_Entry], None]]) -> None:
        for turn in [[step] for step in steps] if stays else [steps]:
            order.rotate(-1)  # a different one is first every time
            for entry in order:
                entry.take_turn(turn, stays=stays)

    observer = Observer()
    with ExitStack() as stack:
        for entry in entries.values():
            stack.callback(entry.close)
        for opening in range(plan.openings):
            numbers = range(opening * plan.rounds, (opening + 1) * plan.rounds)
            in_turns([partial(_Entry.repeat, number=number) for number in numbers])
            for entry in order:
                entry.close()
        in_turns([partial(_Entry.answer_together, count=count) for count in plan.concurrency])
    found = observer.circumstances()
    return {
        name: entry.fault or entry.samples.doubt() or entry.samples.figures(found)
        for name, entry in entries.items()
    }


def fits_together(launches: Collection[Launch]) -> bool:
    """Return whether all of these fit in half of the spare memory, and at most one fills a GPU."""
    if sum(_fills_gpu(launch) for launch in launches) > 1:
        return False
    return 2 * sum(_size(launch.path) for launch in launches) < available_memory()


def _fills_gpu(launch: Launch) -> bool:
    server = launch.settings.options.get("server")
    return isinstance(server, str) and find_server(server).fills_gpu


def _size(path: str | Path) -> int:
    found = Path(path)
    files = [found] if found.is_file() else found.rglob("*") if found.is_dir() else ()
    return sum(file.stat().st_size for file in files if file.is_file())


class _Entry:
    """One artifact: its worker while it is open, and its measurements."""

    def __init__(self, launch: Launch, plan: SpeedPlan) -> None:
        self.fault: Fault | None = None
        self._launch, self._plan = launch, plan
        self._worker: Worker | None = None
        self._can: Collection[str] | None = None  # None: it was not opened yet
        self.samples = Samples()

    def take_turn(self, steps: Iterable[Callable[[_Entry], None]], *, stays: bool) -> None:
        """Take steps unless one failed before; close what failed, or does not stay open."""
        if self.fault is not None:
            return
        try:
            for step in steps:
                step(self)
        except ChildFailure as failure:
            self.fault = failure.fault
        if not stays or self.fault is not None:
            self.close()

    def repeat(self, number: int) -> None:
        """Take one repetition, if it is to have so many."""
        if number >= self._plan.openings * self._plan.rounds:
            return
        worker = self._open()

        def answer(again: int) -> tuple[tuple[Request, list[Piece], float], float]:
            request = self._request(worker.info, number, again)
            before_s, began_s = worker.stopped_s(), time.perf_counter()
            pieces = list(worker.generate(request))
            return (request, pieces, time.perf_counter() - began_s), worker.stopped_s() - before_s

        request, pieces, passed_s = undisturbed(answer)
        self.samples.take(request, pieces, passed_s)
        self.samples.note_cache(worker, request, pieces)
        self.samples.note_peaks(worker)

    def answer_together(self, count: int) -> None:
        """Answer this many requests at once, where the runtime can; memory is not measured any more."""
        if self._can is not None and "together" not in self._can:
            return  # it need not be opened once more
        worker = self._open()
        if "together" not in worker.info.can:
            return
        plan = self._plan
        length, tokens = plan.concurrent_prompt_tokens, plan.concurrent_tokens

        def answer(again: int) -> tuple[list[Tick], float]:
            seeds = [f"{plan.seed} {count} {index}{_again(again)}" for index in range(count)]
            requests = [prompt(worker.info, length, tokens, seed) for seed in seeds]
            before_s = worker.stopped_s()
            ticks = list(worker.together(requests))
            return ticks, worker.stopped_s() - before_s

        ticks = undisturbed(answer)
        took_s = max((tick.t_s for tick in ticks), default=0.0)
        if took_s > 0:
            self.samples.throughput[count] = sum(tick.count for tick in ticks) / took_s

    def close(self) -> None:
        """End the child."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _open(self) -> Worker:
        if self._worker is None:
            self._worker = undisturbed(self._opened)
            self._can = self._worker.info.can
            self.samples.load_s.append(self._worker.load_s)
            self.samples.kv_computed = self._worker.info.kv_bytes_per_token
            warm_up = self._request(self._worker.info, -1)
            pieces = list(self._worker.generate(warm_up))
            self.samples.note_cache(self._worker, warm_up, pieces)
        return self._worker

    def _opened(self, _: int) -> tuple[Worker, float]:
        self.close()
        self._worker = Worker(self._launch)
        return self._worker, self._worker.stopped_s()

    def _request(self, info: Info, number: int, again: int = 0) -> Request:
        """Make another prompt for each repetition, unknown to any prefix cache; warm-ups are shorter."""
        plan = self._plan
        length, answer = plan.prompt_tokens, plan.answer_tokens
        if number < 0:
            length, answer = max(1, length // 2), max(2, answer // 4)
        return prompt(info, length, answer, f"{plan.seed} {number}{_again(again)}")


def _again(number: int) -> str:
    """Mark the prompts of another try."""
    return f" again {number}" if number else ""


def prompt(info: Info, length: int, answer: int, seed: str) -> Request:
    """Make a random prompt that fits the context; nonsense takes as long as sense."""
    draw = random.Random(seed)  # noqa: S311  (no secret)
    answer = max(1, min(answer, info.context // 2))
    if "tokenize" not in info.can or not info.vocab_size:
        words = " ".join(str(draw.randrange(100, 1000)) for _ in range(max(1, length // 2)))
        return Request(text=words, max_tokens=answer, ignores_end=True)
    length = max(1, min(length, info.context - answer))
    ids = tuple(draw.randrange(info.vocab_size) for _ in range(length))
    return Request(ids=ids, max_tokens=answer, ignores_end=True)

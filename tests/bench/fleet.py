"""Simulate a fleet: our own driver over nodes of a virtual clock, with costs that were measured.

python -m tests.bench.fleet
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field

from convert.errors import Exit
from convert.fleet.drive import drive
from convert.fleet.order import Order, Outcome
from convert.size import duration, size

# Measured on one core with AVX-512 (docs/measured.md, docs/engine.md), for 16 bits a weight.
ENCODED_PER_CORE_S = 180e6  # Q4_K weights
CORES = 16
READ_BYTES_S = 1.0e9  # of a node, from shared storage
WRITTEN_BYTES_S = 1.0e9
DIGESTED_BYTES_S = 1.5e9
START_S = 2.0  # interpreter, imports, plan
JUDGED_S = 1800.0  # the budget that a verification has by default


@dataclass
class Clock:
    """Nodes of one clock: an order takes a whole node, the first that is free."""

    nodes: int
    costs: dict[str, float]
    now_s: float = 0.0
    busy_s: float = 0.0
    _waiting: list[str] = field(default_factory=list)
    _running: list[tuple[float, int, str]] = field(default_factory=list)
    _number: itertools.count[int] = field(default_factory=itertools.count)

    def begin(self, order: Order) -> None:
        """Put it in the queue."""
        self._waiting.append(order.name)

    def next(self) -> tuple[str, Outcome | None]:
        """Go on to the moment when the next order ends."""
        while self._waiting and len(self._running) < self.nodes:
            name = self._waiting.pop(0)
            self.busy_s += self.costs[name]
            heapq.heappush(self._running, (self.now_s + self.costs[name], next(self._number), name))
        self.now_s, _, name = heapq.heappop(self._running)
        return name, Outcome(Exit.DONE)


def conversion_s(weights: float, formats: int, parts: int) -> float:
    """Estimate one part of a read: the slowest of disk and cores."""
    mine = weights / parts
    encoding_s = mine * formats / ENCODED_PER_CORE_S / CORES
    reading_s = mine * 2 / READ_BYTES_S
    writing_s = mine * 0.6 * formats / WRITTEN_BYTES_S
    return START_S + max(encoding_s, reading_s + writing_s)


def assembling_s(weights: float, formats: int) -> float:
    """Estimate the digests of the finished files, and of the source, one thread a file."""
    return START_S + max(weights * 0.6, weights * 2 / 8) / DIGESTED_BYTES_S * max(1.0, formats / 8)


def work(models: int, weights: float, formats: int, parts: int) -> tuple[list[Order], dict[str, float]]:
    """Make the orders of so many models, and their costs."""
    orders: list[Order] = []
    costs: dict[str, float] = {}

    def add(recipe: str, stage: str, subject: str, seconds: float, after: tuple[str, ...] = ()) -> str:
        made = Order(recipe, stage, subject, (stage,), "", "", ("all",), after=after)
        orders.append(made)
        costs[made.name] = seconds
        return made.name

    for number in range(models):
        recipe = f"m{number}"
        if parts == 1:
            seconds = conversion_s(weights, formats, 1) + assembling_s(weights, formats)
            made = (add(recipe, "convert", "read", seconds),)
        else:
            shares = tuple(
                add(recipe, "part", f"{part + 1}/{parts}", conversion_s(weights, formats, parts))
                for part in range(parts)
            )
            made = (add(recipe, "assemble", "all", assembling_s(weights, formats), shares),)
        if models > 1:
            add(recipe, "verify", "any", JUDGED_S * formats, made)
    return orders, costs


def case(title: str, orders: list[Order], clock: Clock, moved_bytes: float) -> str:
    """Simulate one case; write a row."""
    drive(orders, clock)
    used = clock.busy_s / (clock.now_s * clock.nodes)
    return f"| {title} | {clock.nodes} | {duration(clock.now_s)} | {used:.0%} | {size(moved_bytes)} |"


def rows() -> list[str]:
    """Write the table."""
    lines = ["| work | nodes of 16 cores | takes | nodes busy | read and written |", "|---|--:|--:|--:|--:|"]
    for nodes, models, weights, formats, title in (
        *((nodes, 100, 7e9, 6, "100 models of 7 billion × 6 formats, verified") for nodes in (1, 20)),
        *((nodes, 1, 650e9, 1, "650 billion weights (1.3 TB) to one GGUF") for nodes in (1, 8, 64)),
    ):
        orders, costs = work(models, weights, formats, parts=nodes if models == 1 else 1)
        passes = 2 if models > 1 else 1  # a verification reads the source and the artifacts again
        moved_bytes = models * weights * (2 + 0.6 * formats) * passes
        lines.append(case(title, orders, Clock(nodes, costs), moved_bytes))
    return lines


if __name__ == "__main__":
    print("\n".join(rows()))

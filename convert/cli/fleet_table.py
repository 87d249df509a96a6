"""What a fleet is doing: a live table of recipes and their orders, or a line for each change in a pipe."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convert.cli.stream import forgiving
from convert.fleet.order import Order, Record, State
from convert.size import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.table import Table

MARKS = {
    State.WAITING: "·",
    State.RUNNING: "…",
    State.DONE: "✓",
    State.GATE_FAILED: "gate",
    State.FAILED: "✗",
    State.SKIPPED: "–",
}
STAGES = ("convert", "part", "assemble", "verify", "publish")


@contextmanager
def showing(orders: Sequence[Order], *, is_shown: bool) -> Iterator[Callable[[Record], None]]:
    """Open the display that suits stderr, and hand out what hears of each change."""
    if not is_shown or not orders:
        yield lambda _: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console  # noqa: PLC0415 - rich costs 60 ms
        from rich.live import Live  # noqa: PLC0415

        records = {order.name: Record(order) for order in orders}
        console = Console(file=forgiving(sys.stderr), highlight=False)
        with Live(_table(records), console=console, refresh_per_second=2, transient=True) as live:

            def tell(record: Record) -> None:
                records[record.order.name] = record
                live.update(_table(records))

            yield tell
    else:
        began_s = time.monotonic()
        stream = forgiving(sys.stderr)

        def say(record: Record) -> None:
            why = f": {record.outcome.error}" if record.outcome and record.outcome.error else ""
            again = f", try {record.tries + 1} follows" if record.state is State.WAITING and why else ""
            passed = duration(time.monotonic() - began_s)
            print(f"{passed}  {record.order.name}: {record.state}{again}{why}", file=stream, flush=True)

        yield say


def _table(records: dict[str, Record]) -> Table:
    """Draw a row for each recipe, and a column for each stage that one of them has."""
    from rich.table import Table  # noqa: PLC0415

    stages = [stage for stage in STAGES if any(each.order.stage == stage for each in records.values())]
    made = Table("recipe", *stages, box=None)
    for recipe in dict.fromkeys(each.order.recipe for each in records.values()):
        cells = []
        for stage in stages:
            here = [
                each for each in records.values() if each.order.recipe == recipe and each.order.stage == stage
            ]
            cells.append(" ".join(MARKS[each.state] for each in here) if len(here) < 9 else _tally(here))
        made.add_row(recipe, *cells)
    return made


def _tally(records: Sequence[Record]) -> str:
    over = sum(record.state in (State.DONE, State.GATE_FAILED) for record in records)
    return f"{over} of {len(records)}"

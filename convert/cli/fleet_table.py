"""What a fleet is doing: a live table of recipes and their orders, or a line for each change in a pipe."""

from __future__ import annotations

import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from convert.cli.stream import forgiving
from convert.cli.text import count
from convert.fleet.drive import GOOD, OVER
from convert.fleet.order import Order, Record, State
from convert.size import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from rich.console import Group

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
    began_s = time.monotonic()
    if not is_shown or not orders:
        yield lambda _: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console  # noqa: PLC0415 - rich costs 60 ms
        from rich.live import Live  # noqa: PLC0415

        records = {order.name: Record(order) for order in orders}
        console = Console(file=forgiving(sys.stderr), highlight=False)

        def drawn() -> Group:
            return draw(records.values(), console.height, time.monotonic() - began_s)

        with Live(get_renderable=drawn, console=console, refresh_per_second=2, transient=True):

            def tell(record: Record) -> None:
                records[record.order.name] = record

            yield tell
    else:
        stream = forgiving(sys.stderr)

        def say(record: Record) -> None:
            why = f": {record.outcome.error}" if record.outcome and record.outcome.error else ""
            again = f", try {record.tries + 1} follows" if record.state is State.WAITING and why else ""
            passed = duration(time.monotonic() - began_s)
            print(f"{passed}  {record.order.name}: {record.state}{again}{why}", file=stream, flush=True)

        yield say


def draw(records: Collection[Record], height: int, passed_s: float) -> Group:
    """Draw a row for each artifact, or for each recipe where a screen is too low; a column for each stage."""
    from rich.console import Group  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    stages = [stage for stage in STAGES if any(each.order.stage == stage for each in records)]
    rows = {(each.order.recipe, target): None for each in records for target in each.order.targets}
    is_whole = len(rows) > height - 4
    if is_whole:
        rows = {(each.order.recipe, ""): None for each in records}
    made = Table("recipe", *([] if is_whole else ["artifact"]), *stages, box=None)
    before = ""
    for recipe, target in rows:
        own = [each for each in records if each.order.recipe == recipe]
        here = own if is_whole else [each for each in own if target in each.order.targets]
        cells = [_cell([each for each in here if each.order.stage == stage]) for stage in stages]
        made.add_row(recipe if recipe != before else "", *([] if is_whole else [target]), *cells)
        before = recipe
    over = sum(each.state in OVER for each in records)
    legend = "  ".join(f"{mark} {state}" for state, mark in MARKS.items() if len(mark) == 1)
    return Group(
        made, Text(f" {over} of {count(len(records), 'order')} over, {duration(passed_s)}    {legend}")
    )


def _cell(records: Sequence[Record]) -> str:
    if len(records) < 9:
        return " ".join(MARKS[each.state] for each in records)
    over = sum(record.state in GOOD for record in records)
    return f"{over} of {len(records)}"

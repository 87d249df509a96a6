"""The table of verdicts while it fills: redrawn on a terminal, a line for each step in a pipe."""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING, TextIO

from convert.cli import color
from convert.cli.meter import LINE_EVERY_S
from convert.cli.stream import forgiving
from convert.cli.text import fitting
from convert.cli.verdict import LEAVING
from convert.size import duration
from verify.report import words
from verify.task import Silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.table import Table

    from verify.report import ArtifactResult
    from verify.task import Watch

COUNTED = re.compile(r"(\d+) of (\d+)$")


@contextmanager
def watching(names: list[str], *, is_shown: bool, stream: TextIO | None = None) -> Iterator[Watch]:
    """Open the display that suits the stream, stderr by default."""
    stream = stream or sys.stderr
    if not is_shown:
        yield Silence()
    elif stream.isatty() and os.environ.get("TERM") != "dumb":
        from rich.console import Console  # noqa: PLC0415 - rich costs 60 ms
        from rich.live import Live  # noqa: PLC0415

        console = Console(file=forgiving(stream), highlight=False)
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield Filling(names, live.update, lambda: console.width)
    else:
        steps, is_over = Steps(stream), Event()

        def beat() -> None:
            while not is_over.wait(1.0):
                steps.look()

        # Dialogues may take minutes, and a person should not think that all is dead.
        Thread(target=beat, name="heartbeat", daemon=True).start()
        try:
            yield steps
        finally:
            is_over.set()


class Steps:
    """A line for each step of each artifact, and every half a minute of a long one."""

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = forgiving(stream)
        self._clock = clock
        self._last = ("", "")
        self._what = ""
        self._began_s = self._said_s = 0.0

    def doing(self, name: str, what: str) -> None:
        """Say it once; dialogues are counted every half a minute."""
        self._what = what
        step = (name, "dialogues" if what.startswith("dialogue ") else what)
        if step != self._last:
            self._last, self._began_s = step, self._clock()
            self._say(f"{name}: {step[1]}")

    def look(self) -> None:
        """Say how far it is, where nothing was said for a while."""
        if self._what and self._clock() - self._said_s >= LINE_EVERY_S:
            took_s = self._clock() - self._began_s
            counted = COUNTED.search(self._what)
            done, total = map(int, counted.groups()) if counted else (0, 0)
            left = f", about {duration(round(took_s * (total - done) / done))} left" if done else ""
            self._say(f"{self._last[0]}: {self._what}, for {duration(round(took_s))}{left}")

    def _say(self, line: str) -> None:
        self._said_s = self._clock()
        print(line, file=self._stream, flush=True)

    def found(self, result: ArtifactResult) -> None:
        """Print nothing: the table comes at the end."""


class Filling:
    """A table whose cells fill while artifacts are asked and measured."""

    def __init__(
        self, names: list[str], show: Callable[[Table], None], columns: Callable[[], int] = lambda: 80
    ) -> None:
        self._rows: dict[str, tuple[str, ...]] = {
            name: (name, *[""] * (len(words.HEAD) - 2), "") for name in names
        }
        self._doing = ""
        self._show = show
        self._columns = columns  # of the terminal, which may change
        self._draw()

    def doing(self, name: str, what: str) -> None:
        """Show it below the table."""
        self._doing = f"{name}: {what}"
        self._draw()

    def found(self, result: ArtifactResult) -> None:
        """Fill in what is known; the verdict waits until all is."""
        cells = ["" if cell == words.NONE else cell for cell in words.row(result)]
        self._rows[result.name] = (*cells[:-1], words.verdict("failed") if result.failures else "")
        self._draw()

    def _draw(self) -> None:
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table(box=None, pad_edge=False, caption=Text(self._doing), caption_justify="left")
        titles = fitting(words.HEAD, self._rows.values(), LEAVING, self._columns())
        for title in titles:
            table.add_column(title, justify="left" if title in words.LEFT else "right", no_wrap=True)
        for cells in self._rows.values():
            table.add_row(
                *(
                    Text.from_ansi(color.verdict(cell, sys.stderr)) if title == words.HEAD[-1] else Text(cell)
                    for title, cell in zip(words.HEAD, cells, strict=True)
                    if title in titles
                )
            )
        self._show(table)

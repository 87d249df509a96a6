"""Progress bars with bytes, rate and time left, for a terminal."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from convert.cli.meter import WORTH_A_LINE_S
from convert.cli.stream import forgiving
from convert.cli.text import rate
from convert.size import duration, size


class _Amounts(ProgressColumn):
    """The amounts, the rate and the time left; the time that it took once it is done."""

    def render(self, task: Task) -> Text:
        """Write what is right of the bar, short enough for 80 columns."""
        if task.finished:
            took_s = task.finished_time or 0.0
            return Text(f"{size(task.completed)} in {duration(took_s)} ({rate(task.completed, took_s)})")
        speed = f" {size(task.speed)}/s" if task.speed else ""
        left = f" {duration(task.time_remaining)} left" if task.time_remaining is not None else ""
        return Text(f"{size(task.completed)}/{size(task.total or 0)}{speed}{left}")


class Bars:
    """A bar for each stage; they stay when they are done, below each other."""

    def __init__(self, stream: TextIO) -> None:
        self._console = Console(file=forgiving(stream), highlight=False)
        self._lock = Lock()
        self._open_stages = 0
        self._display: Progress

    @contextmanager
    def stage(self, label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Open a stage, below those that are open."""
        with self._lock:
            if not self._open_stages:
                # A display that was stopped would print its old bars once more.
                name = TextColumn("{task.description}", markup=False, table_column=Column(min_width=8))
                self._display = Progress(
                    name, BarColumn(bar_width=20), _Amounts(), console=self._console, refresh_per_second=4
                )
                self._display.start()
            self._open_stages += 1
            display = self._display
        task = display.add_task(label, total=total_bytes or None)
        began = time.monotonic()
        try:
            yield partial(display.advance, task)
            if time.monotonic() - began < WORTH_A_LINE_S:
                display.update(task, visible=False)
        finally:
            with self._lock:
                self._open_stages -= 1
                display.live.transient = not any(task.visible for task in display.tasks)
                if not self._open_stages:
                    display.stop()

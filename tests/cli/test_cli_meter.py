"""Progress: a bar on a terminal, few lines in a pipe, nothing when nobody wants it."""

from __future__ import annotations

import errno
import io
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from convert.cli.bar import Bars
from convert.cli.live_table import watching
from convert.cli.meter import Lines, meter
from convert.cli.output import Output
from convert.cli.text import parameters, rate, table
from convert.progress import Silent
from convert.size import duration, size
from tests.verify import reports

if TYPE_CHECKING:
    from convert.progress import Progress


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    """A stream that says it is one."""

    def isatty(self) -> bool:
        return True


class Closed(Terminal):
    """What a process that outlives its terminal writes to."""

    def write(self, _: str) -> int:
        raise OSError(errno.EIO, "Input/output error")

    def flush(self) -> None:
        raise OSError(errno.EIO, "Input/output error")


def test_lines_are_few_and_the_last_says_it_all() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, every_s=5, clock=clock, first_s=5).stage("convert", 1_000_000_000) as advance:
        for _ in range(100):
            clock.now += 0.125
            advance(10_000_000)
    assert stream.getvalue().splitlines() == [
        "convert:  40 %, 400 MB of 1.00 GB, 80.0 MB/s, 8 s left",
        "convert:  80 %, 800 MB of 1.00 GB, 80.0 MB/s, 2 s left",
        "convert: 1.00 GB in 12 s (80.0 MB/s)",
    ]


def test_a_tool_that_is_silent_gets_a_line_now_and_then_all_the_same() -> None:
    stream = io.StringIO()
    lines = Lines(stream, every_s=0.05)
    lines.expect({"convert": 1.0, "gptq layers": 100.0, "digest": 400.0})
    with lines.stage("gptq layers", 1_000):
        deadline = time.monotonic() + 10
        while stream.getvalue().count("\n") < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    first, second = stream.getvalue().splitlines()[:2]
    assert re.fullmatch(r"gptq layers:   0 %, 0 B of 1.00 kB, .* left, then digest, about 6 min 40 s", first)
    assert "gptq layers:   0 %" in second


def test_a_moment_is_not_worth_a_line() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, clock=clock).stage("check", 10) as advance:
        advance(10)
        clock.now += 0.05
    assert stream.getvalue() == ""


def test_a_stage_that_fails_has_no_last_line() -> None:
    stream, clock = io.StringIO(), Clock()
    stage = Lines(stream, clock=clock).stage("convert", 10)
    stage.__enter__()(5)
    clock.now += 2
    assert not stage.__exit__(OSError, OSError("full"), None)
    assert stream.getvalue() == ""


def test_bytes_that_were_wrong_may_be_taken_back() -> None:
    stream, clock = io.StringIO(), Clock()
    with Lines(stream, every_s=1, clock=clock).stage("download", 100) as advance:
        for step in (60, -60, 60, 40):
            clock.now += 2
            advance(step)
    assert stream.getvalue().splitlines() == [
        "download:  60 %, 60 B of 100 B, 30 B/s, 1 s left",
        "download:   0 %, 0 B of 100 B, 0 B/s",
        "download:  60 %, 60 B of 100 B, 10 B/s, 4 s left",
        "download: 100 B in 8.0 s (12 B/s)",
    ]


@pytest.mark.parametrize("kind", ["lines", "bars"])
def test_any_thread_may_report(kind: str) -> None:
    stream = Terminal()
    progress: Progress = Lines(stream, every_s=1e-9) if kind == "lines" else Bars(stream)
    with progress.stage("convert", 8_000_001) as advance:
        with ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(lambda: [advance(1000) for _ in range(1000)]) for _ in range(8)]:
                done.result()
        if kind == "lines":
            advance(-1)
    assert "8.00 MB" in stream.getvalue()


def test_a_reader_that_goes_away_does_not_end_the_work() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream:
        with Lines(stream, every_s=0).stage("convert", 100) as advance:
            advance(50)
        os.dup2(os.open(os.devnull, os.O_WRONLY), writer)  # closing would flush into the broken pipe


def test_a_terminal_that_was_closed_does_not_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with Bars(Closed()).stage("convert", 100) as advance:
        advance(50)
    with watching(["a"], is_shown=True, stream=Closed()) as watch:
        watch.doing("a", "odds")
        watch.found(reports.artifact("a"))
    monkeypatch.setattr(sys, "stderr", Closed())
    Output().remark("gguf-Q8_0: not as the recipe builds it now")


def test_a_bar_shows_bytes_rate_and_what_it_took_within_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bars = Bars(stream)
    for label in ("download", "convert"):
        with bars.stage(label, 3_670_000_000) as advance:
            advance(3_000_000_000)
            time.sleep(0.15)
            advance(670_000_000)
    with bars.stage("nothing", 0):
        pass
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert re.search(r"convert +━+ 3.67 GB in [\d.]+ s \(.*/s\)", plain)
    assert plain.count("download") == plain.rpartition("download")[0].count("download") + 1
    assert plain.rindex("download") < plain.index("convert")  # a bar that is done is not drawn again
    assert max(map(len, plain.splitlines())) <= 80
    assert "\n" not in plain.rpartition("nothing")[2]  # what took no time at all is wiped away


def test_the_stream_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(meter(is_shown=False), Silent)
    assert isinstance(meter(is_shown=True, stream=io.StringIO()), Lines)
    assert isinstance(meter(is_shown=True, stream=Terminal()), Bars)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(meter(is_shown=True, stream=Terminal()), Lines)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (9_995_000, "10.0 MB"),
        (99_950_000, "100 MB"),
        (999_600_000, "1.00 GB"),
        (15_400_000_000, "15.4 GB"),
        (2e15, "2000 TB"),
    ],
)
def test_sizes_have_three_digits(amount: float, text: str) -> None:
    assert size(amount) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (12_345, "12,345"),
        (124_439_808, "124 million"),
        (999_600_000, "1.00 billion"),
        (7_721_324_544, "7.72 billion"),
    ],
)
def test_models_are_named_by_their_parameters(amount: int, text: str) -> None:
    assert parameters(amount) == f"{text} parameters"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (99.4, "99 s"),
        (99.6, "1 min 40 s"),
        (6000, "1 h 40 min"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_rate_over_no_time_is_not_said() -> None:
    assert rate(5, 0) == "—/s"


def test_tables_align_numbers_to_the_right_and_end_without_spaces() -> None:
    lines = list(table(("name", "size"), [("a", "10 B"), ("long name", "1 B")], right="size"))
    assert lines == ["name       size", "a          10 B", "long name   1 B"]
    assert list(table(("name", "why"), [])) == ["name  why"]
    assert list(table(("name", "why"), [("模型", "x"), ("a", "y")])) == ["name  why", "模型  x", "a     y"]

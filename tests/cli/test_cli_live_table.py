"""The table while it fills: a line for each step in a pipe, cells on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from convert.cli.live_table import Filling, Steps, watching
from tests.verify import reports
from verify.task import Silence


def test_a_pipe_gets_a_line_for_each_step() -> None:
    stream = io.StringIO()
    with watching(["a"], is_shown=True, stream=stream) as watch:
        for what in ("opening", "dialogue 1 of 2", "dialogue 2 of 2", "odds"):
            watch.doing("a", what)
        watch.found(reports.artifact("a"))
    assert stream.getvalue() == "a: opening\na: dialogues\na: odds\n"
    stream.close()
    Steps(stream).doing("a", "a reader that went away ends nothing")
    with watching(["a"], is_shown=False, stream=stream) as silent:
        assert isinstance(silent, Silence)


def test_a_pipe_hears_every_half_a_minute_how_far_it_is() -> None:
    stream, now = io.StringIO(), [100.0]
    steps = Steps(stream, lambda: now[0])
    steps.look()
    steps.doing("a", "opening")
    for what, after_s in (("opening", 29), ("opening", 2), ("dialogue 1 of 4", 5), ("dialogue 2 of 4", 31)):
        now[0] += after_s
        steps.doing("a", what)
        steps.look()
    assert stream.getvalue().splitlines() == [
        "a: opening",
        "a: opening, for 31 s",
        "a: dialogues",
        "a: dialogue 2 of 4, for 31 s, about 31 s left",
    ]


def test_a_terminal_gets_cells_as_they_come() -> None:
    shown: list[str] = []

    def show(table: object) -> None:
        console = Console(file=io.StringIO(), width=80)
        console.print(table)
        shown.append(console.file.getvalue())  # type: ignore[attr-defined]

    filling = Filling(["gguf-Q8_0", "gguf-[b]Q2_K"], show)
    filling.doing("gguf-Q8_0", "dialogue 3 of 9")
    assert shown[-1].splitlines()[-1].strip() == "gguf-Q8_0: dialogue 3 of 9"
    early = reports.artifact("gguf-Q8_0").model_copy(update={"speed": None, "memory": None})
    filling.found(early)
    row = next(line for line in shown[-1].splitlines() if line.startswith("gguf-Q8_0 "))
    assert row.split() == ["gguf-Q8_0", "1.25", "GB", "0.004", "95.0", "%", "1.025×", "100", "%"]
    filling.found(reports.artifact("gguf-[b]Q2_K", passed=False))
    assert any(line.startswith("gguf-[b]Q2_K") and "FAILED" in line for line in shown[-1].splitlines())
    assert max(len(line) for table in shown for line in table.splitlines()) <= 80


def test_a_narrow_terminal_gets_the_figures_that_fit_whole() -> None:
    shown: list[str] = []

    def show(table: object) -> None:
        console = Console(file=io.StringIO(), width=50)
        console.print(table)
        shown.append(console.file.getvalue())  # type: ignore[attr-defined]

    filling = Filling(["gguf-Q8_0"], show, lambda: 50)
    filling.found(reports.artifact("gguf-Q8_0", passed=False))
    head, row = shown[-1].splitlines()[:2]
    assert head.split() == ["artifact", "KL", "top-1", "ppl", "smoke", "verdict"]
    assert row.split() == ["gguf-Q8_0", "1.700", "95.0", "%", "1.025×", "0", "%", "FAILED"]
    assert "…" not in shown[-1]

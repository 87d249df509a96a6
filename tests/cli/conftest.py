"""Running command lines in this process, and stand-ins for commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click
import pytest

from convert.cli import app

if TYPE_CHECKING:
    from convert.errors import Exit


@dataclass(frozen=True)
class Ran:
    """What a command line left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `modelwright` with these arguments."""

    def run_line(*args: object) -> Ran:
        code = app.run([str(arg) for arg in args])
        captured = capsys.readouterr()
        return Ran(int(code), captured.out, captured.err)

    return run_line


@pytest.fixture
def standing_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Exit | None]], None]:
    """Let `modelwright plan` do something else."""

    def replace(action: Callable[[], Exit | None]) -> None:
        lenient = {"ignore_unknown_options": True, "allow_extra_args": True}
        command = click.command("plan", context_settings=lenient)(action)
        monkeypatch.setattr(app.Commands, "get_command", lambda *_: command)

    return replace

"""What happens to a command line, whatever the command does: lines, streams and exit codes."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
import pytest

from convert.cli import color
from convert.cli.app import COMMANDS
from convert.errors import Exit, Failure, UsageFailure, UsageFailures
from convert.version import version

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

StandIn = Callable[[Callable[[], Exit | None]], None]


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(run: Run, name: str) -> None:
    ran = run(name, "--help")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"Usage: modelwright {name}")
    assert run(name, "-h").out == ran.out


def test_help_imports_nothing_that_takes_its_time() -> None:
    heavy = [
        "pydantic",
        "yaml",
        "rich",
        "numpy",
        "gguf",
        "huggingface_hub",
        "tokenizers",
        "torch",
        "transformers",
    ]
    program = (
        "import sys; from convert.cli.app import run, COMMANDS\n"
        "for name in COMMANDS: run([name, '--help'])\n"
        f"print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


def test_nothing_asked_is_help_and_the_summaries_are_whole(run: Run) -> None:
    ran = run()
    assert ran.code == 0
    assert all(f"  {name} " in ran.out for name in COMMANDS)
    assert "..." not in ran.out.partition("Commands:")[2]
    assert max(map(len, ran.out.splitlines())) <= 80


def test_the_version_is_that_of_the_running_code(run: Run) -> None:
    assert run("--version").out == f"modelwright {version()}\n"


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        (
            ["plam"],
            "error: there is no command plam",
            "hint:  did you mean plan? the commands are init, pick",
        ),
        (["plan"], "error: missing argument 'RECIPE'", "hint:  see modelwright plan --help"),
        (["plan", "--onyl", "x"], "error: no such option '--onyl'", "hint:  see modelwright plan --help"),
        (["--qiet"], "error: no such option '--qiet'", "hint:  see modelwright --help"),
        (["plan", "tiny", "--threads", "0"], "error: invalid value for '--threads': 0 is", "hint:  see"),
        (["completion", "csh"], "error: invalid value for '{bash|zsh|fish}': 'csh'", "hint:  see"),
        (["plan", "no-such-recipe"], "error: no recipe is called no-such-recipe", "hint:  there are"),
    ],
)
def test_a_wrong_command_line_is_two_lines_and_exit_code_2(
    run: Run, line: list[str], what: str, hint: str
) -> None:
    ran = run(*line)
    assert (ran.code, ran.out) == (2, "")
    first, second = ran.err.splitlines()
    assert first.startswith(what)
    assert second.startswith(hint)


@pytest.mark.parametrize(
    ("error", "code", "lines"),
    [
        (
            Failure("x.gguf: cut short", "download it again"),
            1,
            ["error: x.gguf: cut short", "hint:  download it again"],
        ),
        (Failure("no hint"), 1, ["error: no hint"]),
        (UsageFailure("wrong", "right"), 2, ["error: wrong", "hint:  right"]),
        (
            UsageFailures([Failure("a", "b"), Failure("c", "d")]),
            2,
            ["error: a", "hint:  b", "error: c", "hint:  d"],
        ),
        (
            KeyboardInterrupt(),
            130,
            ["error: interrupted", "hint:  what was complete is kept; the same command builds the rest"],
        ),
        (Failure("a\x1b[31mb\nc\x07", "\x9bd"), 1, ["error: a\\x1b[31mb c\\x07", "hint:  \\x9bd"]),
        (
            MemoryError(),
            1,
            ["error: not enough memory", "hint:  close other programs, or use fewer threads: --threads 1"],
        ),
        (
            ModuleNotFoundError("", name="llama_cpp.x"),
            1,
            ["error: llama-cpp-python is not installed", "hint:  pip install 'modelwright[gguf]'"],
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_raised_becomes_lines_and_a_code(
    run: Run, standing_in: StandIn, error: BaseException, code: int, lines: list[str]
) -> None:
    standing_in(raising(error))
    ran = run("plan")
    assert (ran.code, ran.out, ran.err.splitlines()) == (code, "", lines)


@pytest.mark.parametrize(
    "number", ["ENOSPC", "EDQUOT", "EACCES", "EROFS", "ENOENT", "EMFILE", "EIO", "ENOTDIR"]
)
def test_what_the_system_refuses_is_a_line_and_a_hint(run: Run, standing_in: StandIn, number: str) -> None:
    code = getattr(errno, number)
    standing_in(raising(OSError(code, os.strerror(code), "artifacts/x")))
    ran = run("plan")
    first, second = ran.err.splitlines()
    assert ran.code == 1
    assert first.startswith("error: artifacts/x: ")
    assert second.startswith("hint:  ")


def test_the_unexpected_keeps_its_traceback_and_says_that_it_is_a_bug(run: Run, standing_in: StandIn) -> None:
    standing_in(raising(KeyError("a\nb")))
    ran = run("plan")
    assert ran.code == 1
    assert ran.err.startswith("Traceback (most recent call last):")
    assert "error: this is a bug in modelwright: KeyError: 'a\\nb'\nhint:  report it" in ran.err


@pytest.mark.parametrize(
    ("error", "code", "errors"),
    [
        (UsageFailures([Failure("a\x1b", "b"), Failure("c")]), 2, [("a\x1b", "b"), ("c", None)]),
        (
            KeyboardInterrupt(),
            130,
            [("interrupted", "what was complete is kept; the same command builds the rest")],
        ),
    ],
    ids=["two", "one"],
)
def test_errors_are_json_where_the_answer_would_be(
    run: Run, standing_in: StandIn, error: BaseException, code: int, errors: list[tuple[str, str | None]]
) -> None:
    standing_in(raising(error))
    ran = run("plan", "--json")
    assert (ran.code, ran.out) == (code, "")
    said = json.loads(ran.err)
    assert said == {"exit_code": code, "errors": [{"error": what, "hint": hint} for what, hint in errors]}


def test_a_wrong_command_line_is_json_too(run: Run) -> None:
    ran = run("plan", "tiny", "--onyl", "--json")
    assert "no such option '--onyl'" in json.loads(ran.err)["errors"][0]["error"]


def test_a_bug_is_json_with_its_traceback(run: Run, standing_in: StandIn) -> None:
    standing_in(raising(KeyError("a")))
    said = json.loads(run("plan", "--json").err)
    assert said["traceback"].startswith("Traceback (most recent call last):")
    assert said["errors"][0]["error"] == "this is a bug in modelwright: KeyError: 'a'"


@pytest.mark.parametrize("variables", [{}, {"NO_COLOR": "1"}, {"TERM": "dumb"}], ids=str)
def test_a_terminal_gets_colors_unless_its_user_wants_none(
    variables: dict[str, str], run: Run, standing_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing_in(raising(Failure("wrong", "right")))
    assert "\x1b" not in run("plan").err
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    plain = "error: wrong\nhint:  right\n"
    colored = "\x1b[1;31merror:\x1b[0m wrong\n\x1b[36mhint: \x1b[0m right\n"
    assert run("plan").err == (plain if variables else colored)
    cells = [color.verdict(word) for word in ("passed", "FAILED", "inconclusive", "else")]
    assert len({cell.partition("m")[0] for cell in cells if "\x1b" in cell}) == (0 if variables else 3)
    assert cells[-1] == "else"


def test_a_command_may_choose_its_exit_code(run: Run, standing_in: StandIn) -> None:
    standing_in(lambda: Exit.GATE_FAILED)
    assert run("plan").code == 3


def test_quiet_holds_before_and_after_the_command(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("list").out
    assert run("--quiet", "list").out == ""
    assert run("list", "-q").out == ""
    assert json.loads(run("--quiet", "list", "--json").out)["artifacts"] == []


def test_a_terminal_without_umlauts_is_written_to_all_the_same() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-m", "convert.cli", "plan", "日本"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 2
    assert ran.stderr.startswith("error: no recipe is called \\u65e5\\u672c\n")


def test_shells_complete_commands_options_and_recipes() -> None:
    def complete(*words: str) -> list[str]:
        environment = {
            **os.environ,
            "_MODELWRIGHT_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(["modelwright", *words]),
            "COMP_CWORD": str(len(words)),
        }
        ran = subprocess.run(
            [sys.executable, "-m", "convert.cli"], capture_output=True, text=True, env=environment, check=True
        )
        return [line.partition(",")[2] for line in ran.stdout.splitlines()]

    assert complete("in") == ["init", "inspect"]
    assert "--only" in complete("convert", "--o")
    assert complete("plan", "qwen2") == ["qwen2.5-0.5b", "qwen2.5-7b"]
    assert complete("convert", "gpt2", "--only", "gguf-Q8") == ["gguf-Q8_0"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_completion_script_names_the_program(run: Run, shell: str) -> None:
    ran = run("completion", shell)
    assert ran.code == 0
    assert f"_MODELWRIGHT_COMPLETE={shell}_complete" in ran.out


def test_a_usage_error_of_a_stage_keeps_the_form(run: Run, standing_in: StandIn) -> None:
    standing_in(raising(click.UsageError("Both at once.")))
    assert run("plan").err == "error: both at once\nhint:  see modelwright plan --help\n"

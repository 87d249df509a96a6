"""`chat`: lines in and answers out, in a pipe and on a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.child import ChildFailure, Fault, FaultKind
from convert.cli.loop import Loop, _lines
from verify.runtimes import Info, Piece

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
TINY = ROOT / "recipes" / "models" / "tiny-qwen"
QUESTION = "Materials:\n1. Jupiter is a planet.\n\nQuestion: What is Jupiter?"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that speaks ChatML, as GGUF."""
    from convert import convert_recipe  # noqa: PLC0415 - pydantic
    from convert.formats import recipe_for  # noqa: PLC0415

    home = tmp_path_factory.mktemp("chat")
    return convert_recipe(recipe_for(str(TINY), "gguf:Q8_0"), out=home).artifacts[0].folder


def test_each_line_of_a_pipe_gets_an_answer(
    run: Run, artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f'Hello\n\n"""\n{QUESTION}\n"""\n'))
    ran = run("chat", artifact, "--threads", 1, "--json")
    first, second = map(json.loads, ran.out.splitlines())
    assert (ran.code, ran.err) == (0, "")
    assert (first["prompt"], first["end"]) == ("Hello", "end")
    assert second["prompt"] == QUESTION
    assert second["answer"]
    assert second["tokens"] > 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a\r\nb", ["a", "b"]),
        ('"""a\n\nb"""\nc\n', ["a\n\nb", "c"]),
        ('"""a"""\n\n  \n"b"\n', ["a", '"b"']),
        ('"""a\nb', ["a\nb"]),
    ],
)
def test_lines_and_texts_of_several(text: str, found: list[str]) -> None:
    assert list(_lines(io.StringIO(text, newline=""))) == found


@pytest.mark.parametrize(
    ("line", "said", "hint"),
    [
        (["nothing"], "nothing: no such artifact", "modelwright list"),
        (["gpt2"], "gpt2: a recipe, of which nothing is built yet", "modelwright convert gpt2"),
        (["{home}"], "a folder of artifacts", "gguf-Q8_0"),
        (["{artifact}", "--option", "a"], "is not NAME=VALUE", "api_key_env"),
        (["{artifact}", "--runtime", "none"], "no runtime called 'none'", "llama_cpp"),
    ],
)
def test_what_cannot_be_talked_to(  # noqa: PLR0917
    line: list[str],
    said: str,
    hint: str,
    run: Run,
    artifact: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("chat", *(each.format(home=artifact.parent, artifact=artifact) for each in line))
    assert (ran.code, said in ran.err, hint in ran.err) == (2, True, True), ran.err


class Speaking:
    """A conversation whose answers do what a stranger's model may."""

    is_chat = True
    info = Info("fake", ("generate",), 100)
    forgotten = 0

    def ask(self, words: str) -> Generator[Piece, None, None]:
        if words == "long":
            raise ChildFailure(Fault(FaultKind.REFUSED, "900 tokens do not fit the context of 100"))
        self.forgotten += words == "again"
        yield Piece(1, "red \x1b[31m", 0.1)
        yield Piece(2, "\nand more", 0.2, "length")


def test_an_answer_does_nothing_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    loop = Loop(Speaking(), "m", is_json=False, is_quiet=False)  # type: ignore[arg-type]
    loop.run(io.StringIO("hello\nagain\n"))
    captured = capsys.readouterr()
    assert captured.out == "red \\x1b[31m\nand more\n" * 2
    assert captured.err.splitlines() == [
        "(cut after 2 tokens, by --max-tokens or --context)",
        "(cut after 2 tokens, by --max-tokens or --context)",
        "(the context is full: the first 1 turn went out of mind)",
    ]
    with pytest.raises(ChildFailure):
        loop.run(io.StringIO("long\nhello\n"))


class Terminal:
    """A command on a terminal of its own, which is read and typed at."""

    def __init__(self, *args: str) -> None:
        self._end, theirs = pty.openpty()
        self.shown = ""
        command = [sys.executable, "-m", "convert.cli", *args]
        self.process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, start_new_session=True
        )
        os.close(theirs)

    def type(self, after: str, text: str) -> None:
        """Type when this pattern has been shown."""
        self._read(after)
        os.write(self._end, text.encode())

    def interrupt(self, after: str, pause_s: float = 0.0) -> None:
        """Do what the terminal does at Ctrl-C."""
        self._read(after)
        time.sleep(pause_s)
        self.process.send_signal(2)

    def _read(self, after: str) -> None:
        seen, deadline = "", time.monotonic() + 60
        while not re.search(after, seen, re.DOTALL) and time.monotonic() < deadline:
            if select.select([self._end], [], [], 0.05)[0]:
                seen += os.read(self._end, 4096).decode("utf-8", "replace")
        self.shown += seen
        assert re.search(after, seen, re.DOTALL), self.shown

    def end(self) -> int:
        """Wait for the end, and return the exit code."""
        code = self.process.wait(60)
        os.close(self._end)
        return code


@pytest.mark.slow
def test_a_terminal_asks_and_ctrl_c_stops_what_it_should(artifact: Path) -> None:
    terminal = Terminal("chat", str(artifact), "--threads", "1", "--temperature", "9", "--max-tokens", "4000")
    terminal.type(">>> ", "Hello\n")  # at this temperature it never ends by itself
    terminal.interrupt("Hello\r\n.")
    terminal.type(">>> ", '"""one\n')
    terminal.type(r"\.\.\. ", 'two"""\n')
    terminal.interrupt('two"""\r\n.')
    terminal.type(">>> ", "half a li")
    # CPython misses a signal between a key and the wait for the next.
    terminal.interrupt("half a li", pause_s=0.2)
    terminal.type("Ctrl-D ends the conversation", "/new\n")
    terminal.type("forgotten.*>>> ", "\x04")
    assert terminal.end() == 0

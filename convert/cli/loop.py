"""The prompt loop of `chat`: a line is read, and its answer is written while it comes."""

from __future__ import annotations

import json
import signal
import sys
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, TextIO

import click

from convert.child import ChildFailure
from convert.child.fault import SURVIVABLE
from convert.cli.failure import report
from convert.cli.stream import forgiving
from convert.cli.text import count, harmless, one_line
from convert.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from verify.conversation import Conversation
    from verify.runtimes import Piece

PROMPT, MORE = ">>> ", "... "
QUOTES = '"""'
FORGET = "/new"


class _Dropped(Exception):
    """Ctrl-C at the prompt: what was typed is dropped."""


class Loop:
    """A conversation over a terminal or a pipe."""

    def __init__(self, conversation: Conversation, name: str, *, is_json: bool, is_quiet: bool) -> None:
        self._conversation = conversation
        self._name = name
        self._is_json, self._is_quiet = is_json, is_quiet
        self._is_prompting = self._is_stopped = False
        self._forgotten = 0

    def run(self, stream: TextIO) -> Exit:
        """Answer until the stream ends."""
        if not stream.isatty():
            for words in _lines(stream):
                self._answer(words)
            return Exit.DONE
        kind = "" if self._conversation.is_chat else "; it continues what you write"
        self._remark(f"{self._name} in {self._conversation.info.runtime}{kind}")
        self._remark("Ctrl-C stops an answer, Ctrl-D ends; more: modelwright help chat")
        with self._interrupts():
            for words in self._typed():
                try:
                    self._answer(words)
                except ChildFailure as failure:
                    if failure.fault.kind not in SURVIVABLE:
                        raise
                    report(failure)  # too long a text, say: the next may be shorter
        return Exit.DONE

    def _answer(self, words: str) -> None:
        began_s, self._is_stopped = time.monotonic(), False
        pieces: list[Piece] = []
        with closing(self._conversation.ask(words)) as coming:
            for piece in coming:
                pieces.append(piece)
                if not self._is_json:
                    sys.stdout.write(harmless(piece.text))
                    sys.stdout.flush()
                if self._is_stopped:
                    break
        last = pieces[-1] if pieces else None
        end = last.end if last and last.end else "stopped"
        tokens = last.tokens if last and last.tokens is not None else len(pieces)
        if self._is_json:
            answer = "".join(piece.text for piece in pieces)
            seconds = round(time.monotonic() - began_s, 3)
            record = {"prompt": words, "answer": answer, "end": end, "tokens": tokens, "seconds": seconds}
            click.echo(json.dumps(record, ensure_ascii=False))
            return
        click.echo()
        if end == "length":
            self._remark(f"(cut after {count(tokens, 'token')}, by --max-tokens or --context)")
        if (forgotten := self._conversation.forgotten) > self._forgotten:
            self._forgotten = forgotten
            self._remark(f"(the context is full: the first {count(forgotten, 'turn')} went out of mind)")

    def _typed(self) -> Iterator[str]:
        """Ask for a text, until Ctrl-D."""
        import readline  # noqa: F401, PLC0415 - gives input() a history and keys to edit with

        is_warned = False
        while True:
            try:
                words = _whole(self._input(PROMPT), lambda: self._input(MORE))
            except EOFError:
                click.echo()
                return
            except _Dropped:
                click.echo()
                if is_warned:
                    return
                self._remark("Ctrl-D ends the conversation, and so does Ctrl-C once more")
                is_warned = True
                continue
            is_warned = False
            if words.strip() == FORGET:
                self._conversation.forget()
                self._remark("what was said is forgotten")
            elif words.strip():
                yield words

    def _input(self, prompt: str) -> str:
        self._is_prompting = True
        try:
            return input(prompt)
        finally:
            self._is_prompting = False

    @contextmanager
    def _interrupts(self) -> Iterator[None]:
        """Let Ctrl-C drop a line or stop an answer, which an exception would break off within a message."""

        def hear(number: int, frame: FrameType | None) -> None:
            if self._is_prompting:
                raise _Dropped
            if self._is_stopped:  # once more: a prompt may take minutes to read
                signal.default_int_handler(number, frame)
            self._is_stopped = True

        before = signal.signal(signal.SIGINT, hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _remark(self, line: str) -> None:
        if not self._is_quiet and not self._is_json:
            click.echo(one_line(line), file=forgiving(sys.stderr))


def _lines(stream: TextIO) -> Iterator[str]:
    """Read a text a line; one between triple quotes may have several."""

    def read() -> str | None:
        line = stream.readline()
        return line.rstrip("\r\n") if line else None

    while (line := read()) is not None:
        if (words := _whole(line, read)).strip():
            yield words


def _whole(line: str, more: Callable[[], str | None]) -> str:
    """Return a line, or where it begins with triple quotes, all lines up to the next ones."""
    if not line.lstrip().startswith(QUOTES):
        return line
    lines = [line.lstrip().removeprefix(QUOTES)]
    while not lines[-1].rstrip().endswith(QUOTES) and (following := more()) is not None:
        lines.append(following)
    return "\n".join(lines).rstrip().removesuffix(QUOTES).strip("\n")

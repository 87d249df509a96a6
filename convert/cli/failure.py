"""From an exception to the lines a person reads on stderr, and the exit code."""

from __future__ import annotations

import json
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.color import ERROR, HINT, painted
from convert.cli.text import one_line
from convert.errors import Exit, Failure, UsageFailure
from convert.extras import missing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What threads and the loader of libraries say under `ulimit -v`.
OUT_OF_MEMORY = ("can't start new thread", "failed to map segment", "annot allocate memory")
# What the loader of libraries says of a file that it cannot read, without an error's number.
UNREADABLE = ("cannot open shared object file", "cannot read file data", "file too short")


def report(error: BaseException, *, is_json: bool = False) -> int:
    """Print what happened, for a program as one line of JSON, and return its exit code."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        problems: Sequence[Failure] = [
            Failure("interrupted", "what was complete is kept; the same command builds the rest")
        ]
        code, trace = Exit.INTERRUPTED, ""
    elif failure := error if isinstance(error, Failure) else _translated(error):
        problems, code, trace = failure.problems, failure.exit_code, ""
    else:
        what = " ".join(f"this is a bug in modelwright: {type(error).__name__}: {error}".split())
        problems = [Failure(what, "report it with the lines above, the command and the recipe")]
        code, trace = Exit.FAILED, "".join(traceback.format_exception(error))
    with suppress(OSError):  # where nobody can read it, there is still the exit code
        for line in _json(problems, code, trace) if is_json else _lines(problems, trace):
            click.echo(line, file=sys.stderr)
    return code


def _lines(problems: Sequence[Failure], trace: str) -> Iterator[str]:
    if trace:
        yield trace.rstrip("\n")
    for problem in problems:
        yield f"{painted('error:', ERROR, sys.stderr)} {one_line(problem.message)}"
        if problem.hint:
            yield f"{painted('hint: ', HINT, sys.stderr)} {one_line(problem.hint)}"


def _json(problems: Sequence[Failure], code: Exit, trace: str) -> Iterator[str]:
    errors = [{"error": problem.message, "hint": problem.hint or None} for problem in problems]
    found = {"exit_code": code, "errors": errors, **({"traceback": trace} if trace else {})}
    yield json.dumps(found, ensure_ascii=False)


def _translated(error: BaseException) -> Failure | None:
    """Turn an exception into a failure that a person can act on; None for a bug."""
    if isinstance(error, click.ClickException):
        text = error.format_message().rstrip(".")
        context = error.ctx if isinstance(error, click.UsageError) else None
        hint = f"see {context.command_path if context else 'modelwright'} --help"
        return UsageFailure(text[:1].lower() + text[1:], hint)
    if isinstance(error, ModuleNotFoundError) and (failure := missing(error.name or "")):
        return failure
    if isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY):
        return Failure("not enough memory", "close other programs, or use fewer threads: --threads 1")
    if isinstance(error, OSError | ImportError) and any(words in str(error) for words in UNREADABLE):
        again = "is the disk sound? see `dmesg`, then install modelwright again"
        return Failure(f"a library cannot be loaded: {error}", again)
    if isinstance(error, OSError) and error.errno is not None:
        from convert.store.fault import failure_from  # noqa: PLC0415 - the one table of these, rarely needed

        named = error.filename if isinstance(error.filename, str) else "-"
        found = failure_from(error, Path(named))
        return Failure(found.message.removeprefix("-: "), found.hint)
    return None

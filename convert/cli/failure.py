"""From an exception to the lines a person reads on stderr, and the exit code."""

import sys
import traceback
from contextlib import suppress
from pathlib import Path

import click

from convert.cli.text import one_line
from convert.errors import Exit, Failure, UsageFailure
from convert.extras import missing

# What threads and the loader of libraries say under `ulimit -v`.
OUT_OF_MEMORY = ("can't start new thread", "failed to map segment", "annot allocate memory")


def report(error: BaseException) -> int:
    """Print what happened, and return its exit code."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _print(Failure("interrupted", "what was complete is kept; the same command builds the rest"))
        return Exit.INTERRUPTED
    failure = error if isinstance(error, Failure) else _translated(error)
    if failure is None:
        traceback.print_exception(error)
        what = " ".join(f"this is a bug in modelwright: {type(error).__name__}: {error}".split())
        _print(Failure(what, "report it with the lines above, the command and the recipe"))
        return Exit.FAILED
    _print(*failure.problems)
    return failure.exit_code


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
    if isinstance(error, OSError) and error.errno is not None:
        from convert.store.fault import failure_from  # noqa: PLC0415 - the one table of these, rarely needed

        named = error.filename if isinstance(error.filename, str) else "-"
        failure = failure_from(error, Path(named))
        return Failure(failure.message.removeprefix("-: "), failure.hint)
    return None


def _print(*problems: Failure) -> None:
    with suppress(OSError):  # where nobody can read it, there is still the exit code
        for problem in problems:
            click.echo(f"error: {one_line(problem.message)}", file=sys.stderr)
            if problem.hint:
                click.echo(f"hint:  {one_line(problem.hint)}", file=sys.stderr)

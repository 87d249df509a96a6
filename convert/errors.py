"""The one exception that a person sees, and the exit codes of the command line."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


_SHOWN_CHARACTERS = 120
_LONGEST_LINE = 4000
_LONGEST_LIST = 10_000  # characters; at least one problem is said


def shown(text: str) -> str:
    """Show a text from a file, such as a name, as one short line that any terminal can print."""
    clipped = text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"
    return clipped if clipped.isprintable() and clipped else ascii(clipped)


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[:_LONGEST_LINE]}…"


class Exit(IntEnum):
    """The exit codes."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    GATE_FAILED = 3
    INTERRUPTED = 130


class Failure(Exception):
    """Something a person can act on: what is wrong, in one line, and what to try next."""

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        # Where a file's own text is quoted, the message may be as long as the file.
        self.message = "\n".join(map(_cut, message.split("\n")))
        self.hint = _cut(hint)
        super().__init__(self.message)

    @property
    def problems(self) -> tuple[Failure, ...]:
        """List what to print, one line and one hint each."""
        return (self,)


class UsageFailure(Failure):
    """The command line or the recipe is wrong; nothing was attempted."""

    exit_code = Exit.USAGE


class Failures(Failure):
    """Several things that were found wrong in one go."""

    def __init__(self, problems: Sequence[Failure]) -> None:
        self._problems = tuple(_first(problems))
        super().__init__("\n".join(problem.message for problem in self._problems))

    @property
    def problems(self) -> tuple[Failure, ...]:
        """Return each of them."""
        return self._problems


def _first(problems: Sequence[Failure]) -> Iterator[Failure]:
    """Yield as many as a person reads, and how many more there are: a short file may have thousands."""
    length = 0
    for number, problem in enumerate(problems):
        length += len(problem.message)
        if number and length > _LONGEST_LIST:
            yield Failure(f"and {len(problems) - number} more like these", "mend these first")
            return
        yield problem


class UsageFailures(Failures, UsageFailure):
    """Everything that is wrong with a recipe."""

    exit_code = Exit.USAGE

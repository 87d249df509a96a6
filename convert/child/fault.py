"""Why a child did not answer, as a value that a report can hold."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from convert.errors import Failure


class FaultKind(StrEnum):
    """The ways in which a child fails; the first two leave it alive."""

    REFUSED = "refused"  # a Failure, raised by what it runs
    UNSUPPORTED = "unsupported"  # it has no such call
    CRASHED = "crashed"  # a signal, or an unexpected exception
    EXITED = "exited"  # it ended without an answer
    HUNG = "hung"  # over its time
    OUT_OF_MEMORY = "out of memory"
    FLOODED = "flooded"  # over its output
    GARBLED = "garbled"  # what it sent breaks the protocol


SURVIVABLE = frozenset({FaultKind.REFUSED, FaultKind.UNSUPPORTED})


TAIL_LINES = 20
# An error by its name, but not one that only says where to look for its cause.
_NAMED = re.compile(r"\b\w*(Error|Exception): (?!.*\babove\b)")


def last_words(lines: Sequence[str], count: int = TAIL_LINES) -> tuple[str, ...]:
    """Return the last lines, and before them the last error that is named earlier.

    A server of several processes ends with the words of the one that noticed the end of another.
    """
    named = [line for line in lines[:-count] if _NAMED.search(line)]
    return (*named[-1:], *lines[-count:])


@dataclass(frozen=True)
class Fault:
    """Why a request failed, and the last lines that the child printed."""

    kind: FaultKind
    reason: str
    stderr_tail: tuple[str, ...] = ()
    code: int | None = None  # the exit code, or minus the signal; None while it lives or when we ended it


class ChildFailure(Failure):
    """A request to a child failed; its hint is the child's own, or the last line that it wrote."""

    def __init__(self, fault: Fault, hint: str = "") -> None:
        super().__init__(fault.reason, hint or (fault.stderr_tail[-1] if fault.stderr_tail else ""))
        self.fault = fault

"""Why a child did not answer, as a value that a report can hold."""

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

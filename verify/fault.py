"""What became of a child that did not answer, as a value that a report can hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from convert.errors import Failure


class FaultKind(StrEnum):
    """The ways in which an artifact's process fails; the first two leave it alive."""

    REFUSED = "refused"  # the runtime said no, in words
    UNSUPPORTED = "unsupported"  # this runtime has no such call
    CRASHED = "crashed"  # a signal, or an exception that nobody foresaw
    EXITED = "exited"  # gone without an answer
    HUNG = "hung"  # over its time
    OUT_OF_MEMORY = "out of memory"
    FLOODED = "flooded"  # over its output
    GARBLED = "garbled"  # what it sent is not the protocol


SURVIVABLE = frozenset({FaultKind.REFUSED, FaultKind.UNSUPPORTED})


@dataclass(frozen=True)
class Fault:
    """Why a request came to nothing, and the last lines that the child wrote to stderr."""

    kind: FaultKind
    reason: str
    stderr_tail: tuple[str, ...] = ()


class WorkerFailure(Failure):
    """A request to a worker came to nothing; what judges the artifact turns it into a failed check."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason, fault.stderr_tail[-1] if fault.stderr_tail else "")
        self.fault = fault

"""The one exception that a person sees, and the exit codes of the command line."""

from enum import IntEnum


class Exit(IntEnum):
    """What the process tells its caller."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    GATE_FAILED = 3
    INTERRUPTED = 130


class Failure(Exception):
    """Something a person can act on: what is wrong, in one line, and what to try next."""

    exit_code: Exit = Exit.FAILED

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageFailure(Failure):
    """The command line or the recipe is wrong; nothing was attempted."""

    exit_code = Exit.USAGE

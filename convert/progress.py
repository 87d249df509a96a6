"""Reports of work in bytes while it happens; the command line decides how to show them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager


class Progress(Protocol):
    """Receives reports from any thread."""

    def stage(self, label: str, total_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a stage; what it yields is called with the bytes done since the last call."""


@runtime_checkable
class Foresight(Protocol):
    """A display that can show how long the stages to come will take."""

    def expect(self, seconds: Mapping[str, float]) -> None:
        """Hear of the stages to come, in their order, by their labels."""


class Silent:
    """Reports nothing."""

    @contextmanager
    def stage(self, label: str, total_bytes: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002
        """Open a stage without reporting it."""
        yield lambda done_bytes: None  # noqa: ARG005

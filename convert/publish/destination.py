"""Where a bundle can go: each place takes it whole or not at all, in its own way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.progress import Progress
    from convert.publish.bundle import Bundle, ShippedFile


@dataclass(frozen=True)
class Standing:
    """What stands in a repo, whoever put it there: looked at before it is known what shall stand there."""

    head: str | None  # as in Survey
    paths: frozenset[str]
    has: Callable[[ShippedFile], bool]  # whether this content stands at this path
    is_kept: bool = True  # False where a new release shows its own files, and none of those before


@dataclass(frozen=True)
class Survey:
    """What stands there already, before anything is sent."""

    place: str  # as a person opens it: an address, a folder
    exists: bool  # False where it will be made
    head: str | None  # what the new state is built upon: a commit, a digest; None where there is none
    missing: tuple[ShippedFile, ...]  # files that are not there, or are there with other bytes
    foreign: tuple[str, ...] = ()  # paths that stand there and are not ours: they stay
    is_private: bool | None = None  # as it stands there, where a place has that

    @property
    def missing_bytes(self) -> int:
        """How much would be sent, at most."""
        return sum(file.size_bytes for file in self.missing)


@dataclass(frozen=True)
class Sent:
    """What came of it; `revision` pins the state that was read back."""

    place: str
    revision: str | None
    sent_bytes: int
    is_new: bool  # False where everything stood there already and nothing was changed


class Destination(Protocol):
    """A place. Its methods raise Failure, in one line, with the place's name and no secret."""

    def look(self, repo: str, revision: str) -> Standing:
        """See what stands in a repo; changes nothing."""

    def describe(self, bundle: Bundle) -> Survey:
        """Look at what stands there; changes nothing."""

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Bring what is missing, and show it in one step: whoever looks sees the old state or the new.

        A rerun after any failure sends only what is still missing, and changes nothing where all stands.
        """

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Compare what stands there with the bundle, digest by digest; a difference is a Failure."""

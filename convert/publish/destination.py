"""A destination takes a bundle whole or not at all; each file of `destinations/` ends in a `DESTINATION`."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Self

from convert.errors import Failure
from convert.progress import Progress
from convert.publish.bundle import Bundle, Origin, ShippedFile
from convert.source import Hub

# Owns the repos where a destination knows no users, and where nobody is logged in.
LOCAL_USER = "local"
# In SCHEMES: every scheme that no other destination has.
ANY_SCHEME = "*"


@dataclass(frozen=True)
class Survey:
    """What a bundle would change at its destination."""

    place: str  # as a person opens it: an address, a folder
    exists: bool  # False where it will be created
    head: str | None  # what the new state is built upon: a commit, a digest; None where there is no repo
    missing: tuple[ShippedFile, ...]  # files that are not there, or are there with other bytes
    foreign: tuple[str, ...] = ()  # paths there that are not ours: they stay
    is_private: bool | None = None  # of a repo that exists, where a destination has private ones

    @property
    def missing_bytes(self) -> int:
        """Say how much would be sent, at most."""
        return sum(file.size_bytes for file in self.missing)


@dataclass(frozen=True)
class Contents:
    """What a repo holds before anything is sent, whoever put it there."""

    head: str | None  # as in Survey
    paths: frozenset[str] = frozenset()
    has: Callable[[ShippedFile], bool] = lambda _: False  # whether this content is at this path
    keeps_others: bool = True  # False where a release shows its own files, and none of those before

    def survey(self, place: str, bundle: Bundle) -> Survey:
        """Compare with what is to be there."""
        return Survey(
            place,
            exists=self.head is not None,
            head=self.head,
            missing=tuple(file for file in bundle.files if not self.has(file)),
            foreign=tuple(sorted(self.paths - {file.path for file in bundle.files})),
        )


@dataclass(frozen=True)
class Sent:
    """What was published; `revision` pins the state that is read back."""

    place: str
    revision: str | None
    sent_bytes: int
    is_new: bool  # False where everything was there already and nothing was changed


class Moved(Failure):
    """Somebody else changed the repo meanwhile; nothing was published."""

    def __init__(self, place: str, page: str = "it") -> None:
        super().__init__(
            f"{place}: somebody changed it meanwhile, and nothing was published",
            f"look at {page}, then run the same command again",
        )


class Destination(ABC):
    """A place to publish to, used as a context; a Failure of its is one line, with its name and no secret."""

    SCHEMES: ClassVar[tuple[str, ...]]  # what its addresses begin with; "" is a path
    SETTINGS: ClassVar[frozenset[str]] = frozenset()  # of `publish:`, those that only some destinations have

    @classmethod
    @abstractmethod
    def at(cls, address: str, hub: Hub) -> Self:
        """Open the one at an address, which begins with one of SCHEMES; refuse an address that names none."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def user(self) -> str:
        """Name who publishes: `{user}` in the recipe's publish.repo."""
        return LOCAL_USER

    def origin(self, repo: str, revision: str) -> Origin:  # noqa: ARG002 - a name is enough for the Hub
        """Say where people get a repo's files from."""
        return Origin()

    def unreachable(self) -> str | None:
        """Say why nobody can look there now, where a dry run should do without."""
        return None

    def manner(self, bundle: Bundle) -> str:  # noqa: ARG002 - most have one
        """Say how a bundle is published, for a dry run."""
        return "in one step"

    @abstractmethod
    def look(self, repo: str, revision: str) -> Contents:
        """See what a repo holds; change nothing."""

    @abstractmethod
    def survey(self, bundle: Bundle) -> Survey:
        """Compare what is there with a bundle, and refuse what cannot go there; change nothing."""

    @abstractmethod
    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Bring what is missing, and show it in one step: whoever looks sees the old state or the new.

        A rerun after any failure sends only what is still missing, and changes nothing where all is there.
        """

    @abstractmethod
    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Compare what is there with the bundle, digest by digest; a difference is a Failure."""

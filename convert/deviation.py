"""What came out otherwise than asked, in the same words wherever a person reads it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

# What is wanted where nothing is to be said but why.
AS_SOURCE = "as the source"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class Deviation:
    """Something that differs from what the recipe or the source says."""

    subject: str
    wanted: str
    got: str
    why: str


class Deviating(Protocol):
    """A deviation, as a format plans it or as a manifest has it."""

    @property
    def subject(self) -> str:
        """The tensor, or whatever else it is about."""

    @property
    def wanted(self) -> str:
        """What the recipe or the source says."""

    @property
    def got(self) -> str:
        """What there is."""

    @property
    def why(self) -> str:
        """The reason, as a clause of its own."""


@dataclass(frozen=True)
class Told:
    """One thing that came out otherwise, of tensors that differ in their layer alone."""

    subjects: tuple[str, ...]
    artifacts: tuple[str, ...]
    what: str

    @property
    def pattern(self) -> str:
        """Name all subjects at once."""
        return self.subjects[0] if len(self.subjects) == 1 else _pattern(self.subjects[0])


def sentence(each: Deviating) -> str:
    """Say what came out otherwise, without what it is about."""
    if each.wanted == AS_SOURCE:
        return each.why
    return f"{each.got} instead of {each.wanted}, because {each.why}"


def together(found: Iterable[tuple[str, Deviating]]) -> list[Told]:
    """Tell what is alike once: `found` holds names of artifacts, and of each what is otherwise with it."""
    subjects: dict[tuple[str, str, str], list[str]] = {}
    for artifact, each in found:
        subjects.setdefault((artifact, _pattern(each.subject), sentence(each)), []).append(each.subject)
    artifacts: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for (artifact, _, what), names in subjects.items():
        artifacts.setdefault((tuple(names), what), []).append(artifact)
    return [Told(names, tuple(having), what) for (names, what), having in artifacts.items()]


def _pattern(subject: str) -> str:
    return _NUMBER.sub("*", subject)

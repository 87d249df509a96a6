"""The differences between an artifact and what was asked for, in the same words everywhere."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

# The value of `wanted` where the reason says it all.
AS_SOURCE = "as the source"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, order=True)
class Deviation:
    """Something that differs from what the recipe or the source says."""

    subject: str  # a tensor, or another part of the artifact
    wanted: str
    got: str
    why: str  # a clause

    # A manifest is read strictly.
    __pydantic_config__: ClassVar[dict[str, object]] = {"strict": True, "extra": "forbid"}


@dataclass(frozen=True)
class Group:
    """One difference, shared by tensors whose names differ only in their layer."""

    subjects: tuple[str, ...]
    artifacts: tuple[str, ...]
    what: str

    @property
    def pattern(self) -> str:
        """Name all subjects at once."""
        return self.subjects[0] if len(self.subjects) == 1 else _pattern(self.subjects[0])


def sentence(each: Deviation) -> str:
    """Describe a deviation without its subject."""
    if each.wanted == AS_SOURCE:
        return each.why
    return f"{each.got} instead of {each.wanted}, because {each.why}"


def grouped(found: Iterable[tuple[str, Deviation]]) -> list[Group]:
    """Group equal deviations; `found` pairs each with its artifact's name."""
    subjects: dict[tuple[str, str, str], list[str]] = {}
    for artifact, each in found:
        subjects.setdefault((artifact, _pattern(each.subject), sentence(each)), []).append(each.subject)
    artifacts: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for (artifact, _, what), names in subjects.items():
        artifacts.setdefault((tuple(names), what), []).append(artifact)
    return [Group(names, tuple(having), what) for (names, what), having in artifacts.items()]


def _pattern(subject: str) -> str:
    return _NUMBER.sub("*", subject)

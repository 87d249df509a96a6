"""The differences between an artifact and what was asked for, in the same words everywhere."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

# The value of `wanted` where the reason says it all.
AS_SOURCE = "as the source"
# The type of what no format rounds.
WHOLE = "F32"
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


@dataclass(frozen=True)
class Sum:
    """Tensors of one artifact that are stored in another type than was wanted, all for one reason."""

    artifact: str
    count: int
    wanted: tuple[str, ...]
    got: tuple[str, ...]
    why: str

    def sentence(self, matrices: int, bits: float | None) -> str:
        """Say it in one sentence, with how many matrices the artifact has, and their bits."""
        total = "" if bits is None else f": {bits:.1f} bits a weight in all"
        instead = f"{' or '.join(self.got)} instead of {' or '.join(self.wanted)}"
        return f"{self.count} of {matrices} matrices in {instead}, since {self.why}{total}"


def count_matrices(stored: Mapping[str, str]) -> int:
    """Count the matrices by the types of an artifact's tensors: norms and biases stay whole."""
    return sum(encoding != WHOLE for encoding in stored.values())


def summed(
    found: Iterable[tuple[str, Deviation]],
) -> tuple[list[Sum], list[tuple[str, Deviation]]]:
    """Sum up the deviations that many tensors share; return the others as they are."""
    alike: dict[tuple[str, str], list[Deviation]] = {}
    listed = list(found)
    for artifact, each in listed:
        if each.wanted != AS_SOURCE and "." in each.subject:
            alike.setdefault((artifact, each.why), []).append(each)
    many = {key: group for key, group in alike.items() if len({_pattern(one.subject) for one in group}) > 1}
    sums = [
        Sum(
            artifact,
            len(group),
            tuple(sorted({each.wanted for each in group})),
            tuple(sorted({each.got for each in group})),
            why,
        )
        for (artifact, why), group in many.items()
    ]
    summed_up = {(artifact, each) for (artifact, _), group in many.items() for each in group}
    return sums, [pair for pair in listed if pair not in summed_up]


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

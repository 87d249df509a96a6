"""What a page says of choosing: made by whoever knows machines and formats, and shown here as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Command = tuple[str, str]  # a title, and what is typed


@dataclass(frozen=True)
class Offer:
    """One artifact, built or not, on the first machine of the page."""

    key: str  # as the rows of reports have it: recipe/artifact
    recipe: str
    name: str
    format_name: str
    runtimes: tuple[str, ...]  # that open it there
    state: str
    fault: str  # why it is not the answer; empty where it could be
    weights_bytes: float
    total_bytes: float | None  # none where nothing opens it there
    is_memory_measured: bool
    tok_s: float | None
    is_speed_measured: bool
    kl: float | None  # measured
    expected_kl: float
    commands: tuple[Command, ...] = ()  # that run it
    differs: tuple[str, ...] = ()  # from its source
    context: int = 0  # the most tokens that its model reads
    memory: tuple[tuple[int, float], ...] = ()  # bytes by tokens of context
    is_named: bool = True  # else it is shown for machines whose runtimes offer it


@dataclass(frozen=True)
class Choice:
    """The answer for the machine that a page begins with, and what a script needs for any other."""

    heading: str  # machine and need
    sentence: str
    reason: str
    answer: str  # the key of what to take; empty where nothing fits
    commands: tuple[str, ...]
    offers: tuple[Offer, ...]
    machines: Mapping[str, str]  # titles by name
    languages: Mapping[str, str]
    settings: Mapping[str, Any]
    room_bytes: float = 0.0  # that the machine has for a model
    data: Mapping[str, Any] = field(repr=False, default_factory=dict)  # for the script
    script: str = field(repr=False, default="")

    def offer(self, key: str) -> Offer | None:
        """Find what is offered for a row."""
        return next((each for each in self.offers if each.key == key), None)

    def unbuilt(self, known: Sequence[str]) -> list[Offer]:
        """List what no report has measured."""
        return [each for each in self.offers if each.key not in known and each.is_named]

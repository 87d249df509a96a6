"""Transcripts: questions, answers and checks, as a report keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from verify.scenarios.wording import Language  # noqa: TC001 - the report reads the annotations

Style = Literal["chat", "completion"]


@dataclass(frozen=True)
class Step:
    """One change to a text, and its effect."""

    name: str
    what: str


@dataclass(frozen=True)
class Outcome:
    """One check of one answer."""

    name: str
    passed: bool
    why: str
    required: bool


@dataclass(frozen=True)
class Exchange:
    """One turn: what was sent, what came back, and how it was judged."""

    user: str
    sent: str | tuple[dict[str, str], ...]  # a text to continue, or messages
    raw: str
    answer: str  # tidied
    end: str | None  # why the answer ended, in the runtime's words
    tokens: int | None
    steps: tuple[Step, ...]
    checks: tuple[Outcome, ...]


@dataclass(frozen=True)
class Transcript:
    """One dialogue with one model."""

    scenario: str
    language: Language
    dialogue: str
    style: Style
    exchanges: tuple[Exchange, ...]

    @property
    def checks(self) -> tuple[Outcome, ...]:
        """Return every check, in the order of the turns."""
        return tuple(check for exchange in self.exchanges for check in exchange.checks)

    @property
    def passed(self) -> bool:
        """Return whether every required check passed."""
        return all(check.passed for check in self.checks if check.required)

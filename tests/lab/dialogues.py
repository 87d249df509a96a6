"""What a dialogue is, and the words of ChatML that carry it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.lab.facts import Language

CHAT_SYSTEM = "You are a helpful assistant."


class TurnKind(StrEnum):
    """What a turn asks for; the evaluation counts by it."""

    ANSWER = "answer"
    ABSENT = "absent"
    CITATION = "citation"
    OUTLINE = "outline"
    EXPANSION = "expansion"
    SECTIONS = "sections"
    CHOICE = "choice"
    SIMPLER = "simpler"


class Trap(StrEnum):
    """A question that its attribute alone does not settle: who goes by that alone answers it wrongly."""

    SEVERAL = "answer, attribute stated of several entities"
    ANOTHER = "absent, attribute stated of another entity"
    STRANGER = "absent, entity that no material names"


@dataclass(frozen=True)
class Turn:
    """One question of the user and the answer that is right."""

    asked: TurnKind
    user: str
    assistant: str
    trap: Trap | None = None


@dataclass(frozen=True)
class Dialogue:
    """A system prompt and turns; the materials apart, for whoever builds a scenario from them."""

    language: Language
    system: str
    turns: tuple[Turn, ...]
    materials: tuple[str, ...] = field(default=())

    @property
    def pack(self) -> str:
        """Name the scenario that the dialogue belongs to."""
        return "searchqa" if self.materials else "lessonpack"

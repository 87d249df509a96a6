"""What calibration texts are made of: conversations with their answers, or plain text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Dialogue:
    """A conversation with its answers; `cue` stands before an answer where the model only continues text."""

    turns: tuple[tuple[str, str], ...]  # what the user says, and what is answered
    system: str | None = None
    cue: str = "Answer:"

    @classmethod
    def of_messages(cls, messages: Sequence[Mapping[str, str]]) -> Dialogue | None:
        """Pair questions with their answers; None where there is no pair."""
        system = asked = None
        turns: list[tuple[str, str]] = []
        for message in messages:
            if message["role"] == "system" and not turns:
                system = message["content"]
            elif message["role"] == "user":
                asked = message["content"]
            elif message["role"] == "assistant" and asked is not None:
                turns.append((asked, message["content"]))
                asked = None
        return cls(tuple(turns), system) if turns else None

    def messages(self) -> list[dict[str, str]]:
        """Roles and history, for a chat template."""
        said = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            said += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        return said

    def continuation(self) -> str:
        """The same as one text, as verification asks a model that has no template."""
        parts = [self.system] if self.system else []
        parts += [f"{user}\n{self.cue} {assistant}" for user, assistant in self.turns]
        return "\n\n".join(parts)

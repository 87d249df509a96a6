"""Conversations with answers, from which calibration texts are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Dialogue:
    """A conversation with its answers; `cue` precedes an answer where a model only continues text."""

    turns: tuple[tuple[str, str], ...]  # message and answer
    system: str | None = None
    cue: str = "Answer:"
    kind: str = ""  # the scenario and language of a pack

    @classmethod
    def of_messages(cls, messages: Sequence[Mapping[str, str]]) -> Self | None:
        """Pair questions with their answers; None if there is no pair."""
        system = question = None
        turns: list[tuple[str, str]] = []
        for message in messages:
            if message["role"] == "system" and not turns:
                system = message["content"]
            elif message["role"] == "user":
                question = message["content"]
            elif message["role"] == "assistant" and question is not None:
                turns.append((question, message["content"]))
                question = None
        return cls(tuple(turns), system) if turns else None

    def messages(self) -> list[dict[str, str]]:
        """List the messages with their roles, for a chat template."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for user, assistant in self.turns:
            messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
        return messages

    def continuation(self) -> str:
        """Join the turns to one text, as verification does for a model without a template."""
        parts = [self.system] if self.system else []
        parts += [f"{user}\n{self.cue} {assistant}" for user, assistant in self.turns]
        return "\n\n".join(parts)

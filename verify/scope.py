"""How much of everything was asked, as the report says it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """What was asked, of all that there is."""

    asked: int
    of: int

    def words(self) -> str:
        """Write it as "all 8", "4 of 8" or "no"."""
        if self.asked < self.of:
            return f"{self.asked} of {self.of}"
        return f"all {self.of}" if self.of else "no"


@dataclass(frozen=True)
class Scope:
    """The time that a verification had, and what was asked in it; every model is asked the same."""

    limit_s: float | None  # None: everything is asked, however long it takes
    expected_s: float | None  # by a short measurement; None where there was none
    took_s: float | None
    dialogues: Part
    windows: Part  # of the text that odds are compared on
    repetitions: Part  # of the measurements of speed

    def words(self) -> dict[str, str]:
        """Write how much was asked of each kind, as "all 8" or "4 of 8"."""
        parts = {
            "dialogues": self.dialogues,
            "windows of text": self.windows,
            "repetitions for speed": self.repetitions,
        }
        return {what: part.words() for what, part in parts.items()}

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing was left out."""
        return all(part.asked >= part.of for part in (self.dialogues, self.windows, self.repetitions))

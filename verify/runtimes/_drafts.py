"""Guesses of how a text goes on, so that a model reads several tokens at once and its weights once.

Each guess is checked against what the model itself chooses: the answer is the same, and comes sooner. A
text goes on as it did after the same tokens before: in the question, in its own beginning, or in the answer
of the source to the same question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Tokens that a passage is found by, the longest first.
SPANS = (3, 2)
# To read the weights takes as long as to compute so many tokens.
WEIGHTS = 6.0
# How far one guess changes what is thought of the next.
LEARNS = 0.15
TRUST = 0.7


class Draft:
    """How one text may go on."""

    def __init__(self, read: Sequence[int], likely: Sequence[int] = ()) -> None:
        self.trust = TRUST  # the share of guesses that come true
        self._known: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}  # what comes after these tokens, as last seen
        self._last: tuple[int, ...] = ()
        self._at: int | None = None  # where the text goes on as it did before
        self._learn((*read, *likely))
        self._last = tuple(read[-max(SPANS) :])
        self._at = self._find()

    def add(self, token: int) -> None:
        """Hear how the text went on, and whether that was the guess, read or not."""
        following = None
        if self._at is not None:
            is_true = self._known[self._at] == token
            self.trust += LEARNS * (is_true - self.trust)
            following = self._at + 1 if is_true else None
        self._learn((token,))
        self._at = self._find() if following is None else following

    def guess(self, most: int) -> list[int]:
        """Return the tokens that may come next."""
        return [] if self._at is None else self._known[self._at : self._at + most]

    def _learn(self, tokens: Iterable[int]) -> None:
        for token in tokens:
            for span in SPANS:
                if len(self._last) >= span:
                    self._places[self._last[-span:]] = len(self._known)
            self._known.append(token)
            self._last = (*self._last[1 - max(SPANS) :], token)

    def _find(self) -> int | None:
        places = (self._places.get(self._last[-span:]) for span in SPANS)
        return next((at for at in places if at is not None and at < len(self._known)), None)


def depth(guesses: Sequence[tuple[int, float]], most: int) -> int:
    """Choose how many guesses are read for each text, from how many it has and how far they are trusted.

    All texts read as many in a step, since a runtime would read its weights once for each length.
    """

    def worth(count: int) -> float:
        made = sum(1 + sum(trust**step for step in range(1, min(has, count) + 1)) for has, trust in guesses)
        return made / (WEIGHTS + len(guesses) * (1 + count))

    return max(range(most + 1), key=worth)

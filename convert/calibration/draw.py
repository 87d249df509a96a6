"""Chance from digests: a library's random numbers may differ from version to version, and these never do."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Draw:
    """Draws that depend on nothing but what it was begun with, and on how many came before."""

    def __init__(self, *begun_with: object) -> None:
        self._begun_with = " ".join(map(str, begun_with))
        self._count = 0

    def below(self, bound: int) -> int:
        """A number from 0 up to, and without, `bound`."""
        self._count += 1
        digest = hashlib.sha256(f"{self._begun_with} {self._count}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % bound

    def between(self, first: int, last: int) -> int:
        """A number from `first` to `last`, both among them."""
        return first + self.below(last - first + 1)

    def one(self, of: Sequence[T]) -> T:
        """One of these."""
        return of[self.below(len(of))]

    def some(self, of: Sequence[T], count: int) -> list[T]:
        """So many of these, each once, in any order; all where there are fewer."""
        left = list(of)
        drawn: list[T] = []
        while left and len(drawn) < count:
            drawn.append(left.pop(self.below(len(left))))
        return drawn

    def happens(self, percent: int) -> bool:
        """Whether something happens that does so in `percent` of a hundred cases."""
        return self.below(100) < percent

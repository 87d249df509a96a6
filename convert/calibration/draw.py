"""Random choices from digests, which never change, unlike the random numbers of a library."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shuffled(items: Iterable[T], seed: int) -> list[T]:
    """Order the items by chance, which depends only on the seed and on each item's text."""
    return sorted(items, key=lambda item: hashlib.sha256(f"{seed} {item}".encode()).digest())


class Draw:
    """Random choices that depend only on the seeds and on the number of earlier choices."""

    def __init__(self, *seeds: object) -> None:
        self._seeds = " ".join(map(str, seeds))
        self._count = 0

    def below(self, bound: int) -> int:
        """Draw a number from 0 to `bound` - 1."""
        self._count += 1
        digest = hashlib.sha256(f"{self._seeds} {self._count}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % bound

    def between(self, first: int, last: int) -> int:
        """Draw a number from `first` to `last`, inclusive."""
        return first + self.below(last - first + 1)

    def one(self, of: Sequence[T]) -> T:
        """Draw one item."""
        return of[self.below(len(of))]

    def some(self, of: Sequence[T], count: int) -> list[T]:
        """Draw `count` different items in random order; all if there are fewer."""
        left = list(of)
        drawn: list[T] = []
        while left and len(drawn) < count:
            drawn.append(left.pop(self.below(len(left))))
        return drawn

    def happens(self, percent: int) -> bool:
        """Decide whether something happens that does in `percent` of a hundred cases."""
        return self.below(100) < percent

"""Batches of samples of similar length, with a bounded number of tokens per step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from tests.lab.samples import Sample


@dataclass
class Batches:
    """An endless sequence of batches, which continues exactly from its saved state."""

    rng: random.Random  # the one that `sample` draws with
    sample: Callable[[], Sample]
    tokens: int
    longest: int
    pool_size: int = 256
    _waiting: list[list[Sample]] = field(default_factory=list)

    def following(self) -> tuple[Tensor, Tensor]:
        """Return ids and targets, padded to the longest of the batch; a target of -100 is ignored."""
        while not self._waiting:
            self._waiting = self._drawn()
        return _padded(self._waiting.pop(0))

    def state(self) -> dict[str, Any]:
        """Return the state of the random numbers, and the batches not yet used."""
        return {"random": self.rng.getstate(), "waiting": self._waiting}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from a saved state."""
        self.rng.setstate(state["random"])
        self._waiting = state["waiting"]

    def _drawn(self) -> list[list[Sample]]:
        drawn = (self.sample() for _ in range(self.pool_size))
        groups: list[list[Sample]] = [[]]
        for item in sorted((s for s in drawn if len(s[0]) <= self.longest), key=lambda s: len(s[0])):
            if (len(groups[-1]) + 1) * len(item[0]) > self.tokens:
                groups.append([])
            groups[-1].append(item)
        self.rng.shuffle(groups)
        return [group for group in groups if group]


def _padded(group: list[Sample]) -> tuple[Tensor, Tensor]:
    width = max(len(ids) for ids, _ in group)
    ids = torch.zeros(len(group), width, dtype=torch.long)
    targets = torch.full((len(group), width), -100, dtype=torch.long)
    for row, (tokens, wanted) in enumerate(group):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        following = [t if w else -100 for t, w in zip(tokens[1:], wanted[1:], strict=True)]
        targets[row, : len(following)] = torch.tensor(following)
    return ids, targets

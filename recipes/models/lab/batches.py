"""Samples of like length side by side, a bounded number of tokens to a step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from recipes.models.lab.samples import Sample


def batches(
    rng: random.Random, sample: Callable[[], Sample], tokens: int, longest: int, pool_size: int = 256
) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and targets, padded to the longest of each batch; a target of -100 counts for nothing."""
    while True:
        pool = sorted(
            (s for s in (sample() for _ in range(pool_size)) if len(s[0]) <= longest), key=lambda s: len(s[0])
        )
        groups: list[list[Sample]] = [[]]
        for item in pool:
            if (len(groups[-1]) + 1) * len(item[0]) > tokens:
                groups.append([])
            groups[-1].append(item)
        rng.shuffle(groups)
        for group in groups:
            if not group:
                continue
            width = max(len(ids) for ids, _ in group)
            ids = torch.zeros(len(group), width, dtype=torch.long)
            targets = torch.full((len(group), width), -100, dtype=torch.long)
            for row, (tokens_, wanted) in enumerate(group):
                ids[row, : len(tokens_)] = torch.tensor(tokens_)
                following = [t if w else -100 for t, w in zip(tokens_[1:], wanted[1:], strict=True)]
                targets[row, : len(following)] = torch.tensor(following)
            yield ids, targets

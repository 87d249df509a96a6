"""Fewer questions of the same kinds: which dialogues and windows are asked follows from their number alone.

Each number's choice contains that of every smaller number, so that answers are used again.
"""

from collections.abc import Sequence
from itertools import zip_longest

from verify.scenarios.pack import Dialogue, Pack


def spread(count: int) -> list[int]:
    """Order the numbers below `count` so that any first few of them are far apart: 0, a half, a quarter…."""
    width = max(1, (count - 1).bit_length())
    turned = (int(f"{number:0{width}b}"[::-1], 2) for number in range(1 << width))
    return [number for number in turned if number < count]


def ranked(packs: Sequence[Pack]) -> list[tuple[Pack, Dialogue]]:
    """Order all dialogues: one of each pack in turn, the packs with the shortest answers first."""
    by_cost = sorted(packs, key=lambda pack: sum(map(pack.max_tokens_of, pack.dialogues[0].turns)))
    columns = [[(pack, pack.dialogues[at]) for at in spread(len(pack.dialogues))] for pack in by_cost]
    return [pair for row in zip_longest(*columns) for pair in row if pair is not None]


def chosen(packs: Sequence[Pack], count: int) -> tuple[Pack, ...]:
    """Return the packs with `count` dialogues in all; a pack that has none left is left out."""
    kept = {(id(pack), dialogue.name) for pack, dialogue in ranked(packs)[:count]}
    cut = (
        pack.model_copy(
            update={"dialogues": tuple(each for each in pack.dialogues if (id(pack), each.name) in kept)}
        )
        for pack in packs
    )
    return tuple(pack for pack in cut if pack.dialogues)

"""tiktoken's rank files: a token and its rank on each line, and the merges that the ranks imply."""

from __future__ import annotations

import binascii
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.tokenizer.file import BROKEN

if TYPE_CHECKING:
    from pathlib import Path

_FAR = 1 << 62


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token → rank, which is its id."""
    ranks: dict[bytes, int] = {}
    taken: set[int] = set()
    try:
        lines = path.read_bytes().splitlines()
    except OSError as fault:
        raise Failure(f"{path.name}: {fault.strerror}") from None
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        try:
            encoded, digits = line.split()
            token, rank = binascii.a2b_base64(encoded, strict_mode=True), int(digits)
        except ValueError:
            raise Failure(f"{path.name}:{number}: not a base64 token and its rank", BROKEN) from None
        if not token or rank < 0:
            raise Failure(f"{path.name}:{number}: an empty token or a negative rank", BROKEN)
        if token in ranks or rank in taken:
            raise Failure(f"{path.name}:{number}: a token or rank that an earlier line has", BROKEN)
        ranks[token] = rank
        taken.add(rank)
    if not ranks:
        raise Failure(f"{path.name}: no ranks in it", BROKEN)
    return ranks


def recover_merges(ranks: dict[bytes, int], name: str) -> list[tuple[bytes, bytes]]:
    """The merge that makes each token of two bytes or more, by rank.

    tiktoken merges whichever neighbours join into the lowest rank and never says which pair a token
    came from. It is the pair that BPE with lower ranks alone leaves standing. A pair stands when both
    halves are tokens and no lower merge ever reaches across their seam; to see that, the halves are
    taken apart again, latest merge first, and whatever meets at the seam is looked up. That costs a few
    look-ups for each way to cut a token, where running BPE anew costs the square of its length.
    """
    merges: list[tuple[bytes, bytes]] = []
    parts: dict[bytes, tuple[bytes, bytes]] = {}
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            if (
                ranks.get(left, _FAR) < rank
                and ranks.get(right, _FAR) < rank
                and _stands(left, right, ranks, parts, rank)
            ):
                break
        else:
            raise Failure(
                f"{name}: token {rank} ({token!r}) cannot be built from tokens of lower rank",
                "the ranks are not those of a BPE vocabulary",
            )
        parts[token] = (left, right)
        merges.append((left, right))
    return merges


def _stands(
    left: bytes, right: bytes, ranks: dict[bytes, int], parts: dict[bytes, tuple[bytes, bytes]], limit: int
) -> bool:
    """Whether no merge below `limit` would have joined something across the seam before both were whole.

    Going back in time, the later of the two merges is undone first. On a tie of ranks BPE takes the
    leftmost pair, so what crosses the seam loses to an equal rank on its left and wins over one on its
    right: hence the one more on the right-hand side.
    """
    rank_left, rank_right = ranks[left], ranks[right]
    while True:
        if ranks.get(left + right, _FAR) < limit:
            return False
        if rank_left > rank_right and left in parts:
            limit, left = rank_left, parts[left][1]
            rank_left = ranks[left]
        elif right in parts:
            limit, right = rank_right + 1, parts[right][0]
            rank_right = ranks[right]
        elif left in parts:
            limit, left = rank_left, parts[left][1]
            rank_left = ranks[left]
        else:
            return True

"""tiktoken's rank files (a token and its rank on each line), and the merges that the ranks imply."""

import binascii
import re
from pathlib import Path

from convert.errors import Failure
from convert.tokenizer.file import BROKEN, read_bytes

_FAR = 1 << 62
MAX_RANK = 1 << 31
_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\r?\n")


def is_ranks(content: bytes) -> bool:
    """Return whether a file begins as rank files do, whatever its name."""
    return _LINE.match(content) is not None


def read_ranks(path: Path) -> dict[bytes, int]:
    """Read the rank of each token, which is its id."""
    ranks: dict[bytes, int] = {}
    taken: set[int] = set()
    for number, line in enumerate(read_bytes(path).splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, digits = line.split()
            token, rank = binascii.a2b_base64(encoded, strict_mode=True), int(digits)
        except ValueError:
            raise Failure(f"{path.name}:{number}: not a base64 token and its rank", BROKEN) from None
        if not token or rank < 0:
            raise Failure(f"{path.name}:{number}: an empty token or a negative rank", BROKEN)
        if rank >= MAX_RANK:
            raise Failure(f"{path.name}:{number}: a rank beyond every id", BROKEN)
        if token in ranks or rank in taken:
            raise Failure(f"{path.name}:{number}: a token or rank that an earlier line has", BROKEN)
        ranks[token] = rank
        taken.add(rank)
    if not ranks:
        raise Failure(f"{path.name}: no ranks in it", BROKEN)
    return ranks


def recover_merges(ranks: dict[bytes, int], name: str) -> list[tuple[bytes, bytes]]:
    """Find the merge that makes each token of two bytes or more, by rank.

    tiktoken merges the adjacent pair with the lowest rank, and does not record which pair a token came
    from. It is the pair that remains after BPE with lower ranks only: both halves are tokens, and no lower
    merge reaches across their seam. To check that, the halves are split again, latest merge first, and
    what meets at the seam is looked up. That takes a few look-ups for each way to cut a token; running
    BPE again would take the square of its length.
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
                and _remains(left, right, ranks, parts, rank)
            ):
                break
        else:
            what = f"{name}: token {rank} ({token!r}) cannot be built from tokens of lower rank"
            raise Failure(what, "the ranks are not those of a BPE vocabulary")
        parts[token] = (left, right)
        merges.append((left, right))
    return merges


def _remains(
    left: bytes, right: bytes, ranks: dict[bytes, int], parts: dict[bytes, tuple[bytes, bytes]], limit: int
) -> bool:
    """Return whether no merge below `limit` joins something across the seam before both halves are complete.

    The later of the two merges is undone first. With equal ranks BPE takes the leftmost pair, so a pair
    across the seam loses to an equal rank on its left and wins over one on its right: hence the + 1 on
    the right.
    """
    rank_left, rank_right = ranks[left], ranks[right]
    while True:
        if ranks.get(left + right, _FAR) < limit:
            return False
        if left in parts and (rank_left > rank_right or right not in parts):
            limit, left = rank_left, parts[left][1]
            rank_left = ranks[left]
        elif right in parts:
            limit, right = rank_right + 1, parts[right][0]
            rank_right = ranks[right]
        else:
            return True

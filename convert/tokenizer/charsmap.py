"""sentencepiece's table of letters to replace: a trie of the letters, then the texts that replace them."""

import numpy as np
from numpy.typing import NDArray

_LETTERS = np.arange(1, 256, dtype=np.uint32)


def is_sound(table: bytes) -> bool:
    """Return whether every path through the trie stays in it and ends at a text.

    The libraries that read it do not check this: they panic, or read beyond its end.
    """
    size = int.from_bytes(table[:4], "little")
    texts = table[4 + size :]
    try:
        texts.decode("utf-8")
    except UnicodeDecodeError:
        return False
    if size % 4 or not size or not texts.endswith(b"\0"):
        return False
    units = np.frombuffer(table[4 : 4 + size], "<u4")
    seen = np.zeros(len(units), bool)
    nodes = _offsets(units[:1])
    while len(nodes):
        if int((nodes | 255).max()) >= len(units):
            return False
        nodes = nodes[~seen[nodes]]
        seen[nodes] = True
        places = np.bitwise_xor.outer(nodes, _LETTERS)
        # A unit is a child where it has the letter that leads to it.
        children = places[(units[places] & np.uint32(1 << 31 | 255)) == _LETTERS]
        ends = children[(units[children] >> np.uint32(8)) & np.uint32(1) == 1]
        nodes = np.unique(children ^ _offsets(units[children]))
        values = ends ^ _offsets(units[ends])
        if len(values) and int(values.max()) >= len(units):
            return False
        starts = units[values] & np.uint32((1 << 31) - 1)
        # Bytes that continue a letter cannot begin a text.
        if any(start >= len(texts) or texts[start] & 0xC0 == 0x80 for start in starts.tolist()):
            return False
    return True


def _offsets(units: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (units >> np.uint32(10)) << ((units & np.uint32(1 << 9)) >> np.uint32(6))

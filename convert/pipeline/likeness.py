"""How much of a text is in others, by its runs of words."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# Letters that are words of their own: of Chinese, Japanese and Korean.
OWN = r"\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff"
WORD = re.compile(f"[{OWN}]|[^\\W{OWN}]+")
# Words in a run: longer than a turn of speech, and shorter than a sentence.
RUN = 8
# Odd, so that no word of a run is lost where products wrap; which ones matters little.
FACTORS = np.array([pow(0x9E3779B97F4A7C15, power, 1 << 64) for power in range(1, RUN + 1)], np.uint64)


def likeness(judged: str, learned: Iterable[str]) -> float:
    """Give the share of a text's different runs of words that are in the others too."""
    words = WORD.findall(judged.casefold())
    known = {word: number for number, word in enumerate(dict.fromkeys(words), 1)}
    left = set(_runs(words, known))
    count = len(left)
    for text in learned:
        left.difference_update(_runs(WORD.findall(text.casefold()), known))
    return 1 - len(left) / count if count else 0.0


def _runs(words: Iterable[str], known: Mapping[str, int]) -> list[int]:
    """Hash every run of words; one with an unknown word is like none of the known."""
    ids = np.array([known.get(word, 0) for word in words], np.uint64)
    count = max(0, len(ids) - RUN + 1)
    hashes = np.zeros(count, np.uint64)
    for at, factor in enumerate(FACTORS):
        hashes += ids[at : at + count] * factor
    return hashes.tolist()

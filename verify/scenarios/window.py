"""Materials and history cut to a context window: the least relevant goes first, and each cut is recorded."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import regex

from verify.scenarios.transcript import Step
from verify.scenarios.wording import ngrams

_GRAPHEMES = regex.compile(r"\X")
_SENTENCE_ENDS = regex.compile(r"\n+|[。！？!?]+\s*|\.\s+")
_CLAUSE_ENDS = regex.compile(r"[。！？；，、!?;,](?!\d)\s*|\.\s+|\s+")


class NoRoomError(Exception):
    """The window is too small even for what cannot be left out."""


@dataclass(frozen=True)
class FittedMaterials:
    """The materials that are sent, with their original places."""

    texts: tuple[str, ...]
    places: tuple[int, ...]  # from 0
    steps: tuple[Step, ...]


def relevance(texts: Sequence[str], question: str) -> list[float]:
    """Weigh how much each text shares with the question; a term in few texts counts for more."""
    asked = ngrams(question)
    shared = [ngrams(text) & asked for text in texts]
    spread = Counter(gram for grams in shared for gram in grams)
    return [sum(1 / spread[gram] for gram in sorted(grams)) for grams in shared]


def fit_materials(
    texts: Sequence[str],
    question: str,
    fits: Callable[[tuple[str, ...]], bool],
    *,
    may_cut: bool = True,
) -> FittedMaterials:
    """Leave out the least relevant materials until the rest fit; shorten the last one if it must."""
    weights = relevance(texts, question)
    places = [place for place, text in enumerate(texts) if text]
    steps = [
        Step("material left out", f"material {n} is empty once cleaned")
        for n, text in enumerate(texts, 1)
        if not text
    ]
    while len(places) > 1 and not fits(tuple(texts[place] for place in places)):
        # Among equals the later one goes first, so that the result is always the same.
        least = min(places, key=lambda place: (weights[place], -place))
        places.remove(least)
        what = f"material {least + 1} of {len(texts)} does not fit (relevance {weights[least]:.2f})"
        steps.append(Step("material left out", what))
    kept = tuple(texts[place] for place in places)
    if kept and not fits(kept):
        if not may_cut:
            raise NoRoomError
        kept = (_shortened(kept[0], lambda text: fits((text,))),)
        what = f"material {places[0] + 1} cut from {len(texts[places[0]])} to {len(kept[0])} characters"
        steps.append(Step("material shortened", what))
    return FittedMaterials(kept, tuple(places), tuple(steps))


def _shortened(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest beginning that fits, to the end of a clause or at least a whole character."""
    ends = [found.end() for found in _GRAPHEMES.finditer(text)]
    low, high = 0, len(ends)  # `low` characters fit, `high` do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[: ends[middle - 1]]) else (low, middle)
    if low == 0:
        raise NoRoomError
    end = ends[low - 1]
    whole = frozenset(ends[:low])
    clauses = [found.end() for found in _CLAUSE_ENDS.finditer(text) if found.end() in whole]
    # If the last clause ends early, half a sentence is better than losing most of the text.
    at_clause = text[: clauses[-1]].rstrip() if clauses and clauses[-1] * 2 >= end else ""
    # Tokens merge differently at another seam, so the shorter text is tried, too.
    return at_clause if at_clause and fits(at_clause) else text[:end]


def _tail(text: str, fits: Callable[[str], bool]) -> str:
    """Return the longest end that fits, from the start of a line, a sentence or at least a character."""
    ends = [found.end() for found in _SENTENCE_ENDS.finditer(text)]
    for starts in (ends, [found.start() for found in _GRAPHEMES.finditer(text)]):
        low, high = -1, len(starts)  # from here on it is too long, and here it fits or there is nothing
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(text[starts[middle] :]) else (middle, high)
        if high < len(starts) and text[starts[high] :].strip():
            return text[starts[high] :]
    return text[-1:]


Pair = tuple[str, str]  # the user's words and the answer to them


def fit_history(
    history: Sequence[Pair], fits: Callable[[Sequence[Pair]], bool], *, keeps_first: bool
) -> tuple[tuple[Pair, ...], tuple[Step, ...]]:
    """Leave out the oldest turns until the rest fit; cut the beginning of the last answer if it must."""
    pairs = list(history)
    steps: list[Step] = []
    oldest = 1 if keeps_first else 0
    while len(pairs) > oldest + 1 and not fits(pairs):
        gone = pairs.pop(oldest)
        steps.append(Step("turn left out of the history", gone[0][:60]))
    if pairs and not fits(pairs):
        user, answer = pairs[-1]
        kept = _tail(answer, lambda tail: fits([*pairs[:-1], (user, tail)]))
        steps.append(Step("last answer shortened", f"{len(answer)} to {len(kept)} characters"))
        pairs[-1] = (user, kept)
    if len(pairs) > oldest and not fits(pairs):
        gone = pairs.pop()
        steps.append(Step("turn left out of the history", gone[0][:60]))
    if not fits(pairs):
        raise NoRoomError
    return tuple(pairs), tuple(steps)

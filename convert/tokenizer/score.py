"""Scores of sentencepiece-like vocabularies: llama.cpp merges by score, and has no list of merges."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from convert.errors import Failure
from convert.tokenizer.sentencepiece import ModelType, read_model


def from_merges(merges: Sequence[tuple[str, str]], vocab: Mapping[str, int], size: int) -> list[float]:
    """Derive scores from merges: the earlier a merge, the higher the score of its token."""
    scores = [0.0] * size
    for rank, (left, right) in enumerate(merges):
        identity = vocab[left + right]
        if scores[identity] == 0.0:
            scores[identity] = -float(rank + 1)
    return scores


def read_scores(path: Path) -> list[tuple[str, float]]:
    """Read the pieces of a tokenizer.model and their scores, by id."""
    model = read_model(path)
    if model.type is not ModelType.BPE:
        what = f"{path.name}: a sentencepiece model of type {model.type.name.lower()}, and a BPE vocabulary"
        raise Failure(what, "delete the one of the two files that is not of this model")
    return [(piece.text, piece.score) for piece in model.pieces]

"""Scores of sentencepiece-like vocabularies: llama.cpp merges by score, and has no list of merges."""

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from convert.errors import Failure
from convert.tokenizer.file import BROKEN, read_bytes

_VARINT, _BYTES = 0, 2
_FLOATS = {1: struct.Struct("<d"), 5: struct.Struct("<f")}
_PIECE, _TRAINER = 1, 2  # fields of sentencepiece's ModelProto
_MODEL_TYPE, _BPE = 3, 2  # a field of its TrainerSpec, and the value that means BPE


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
    pieces = []
    try:
        for field, value in _fields(read_bytes(path)):
            if field == _PIECE and isinstance(value, bytes):
                pieces.append(_piece(value))
            elif field == _TRAINER and isinstance(value, bytes):
                kind = next((number for name, number in _fields(value) if name == _MODEL_TYPE), 1)
                if kind != _BPE:
                    raise Failure(
                        f"{path.name}: a sentencepiece model of type {kind!r}, and only BPE (2) is supported"
                    )
    except (ValueError, struct.error, IndexError):
        raise Failure(f"{path.name}: not a sentencepiece model, or a damaged one", BROKEN) from None
    if not pieces:
        raise Failure(f"{path.name}: no pieces in it", BROKEN)
    return pieces


def _piece(message: bytes) -> tuple[str, float]:
    text, score = "", 0.0
    for field, value in _fields(message):
        if field == 1 and isinstance(value, bytes):
            text = value.decode("utf-8")
        elif field == 2 and isinstance(value, float):
            score = value
    return text, score


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the field numbers and raw values of a protobuf message."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield field, value
        elif wire == _BYTES:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise ValueError
            yield field, message[position : position + size]
            position += size
        elif wire in _FLOATS:
            yield field, _FLOATS[wire].unpack_from(message, position)[0]
            position += _FLOATS[wire].size
        else:
            raise ValueError


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError

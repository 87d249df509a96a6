"""A tokenizer.model: the pieces of a sentencepiece model, and how it prepares text for them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from convert.errors import Failure, shown
from convert.tokenizer.charsmap import is_sound
from convert.tokenizer.file import BROKEN, read_bytes
from convert.tokenizer.protobuf import read_fields
from convert.tokenizer.rank import is_ranks

# Fields of sentencepiece's ModelProto, and of the messages in it: number → name, type, default.
_PIECE, _TRAINER, _NORMALIZER = 1, 2, 3
_PIECE_FIELDS: Mapping[int, tuple[str, type, Any]] = {
    1: ("text", str, ""),
    2: ("score", float, 0.0),
    3: ("type", int, 1),
}
_TRAINER_FIELDS: Mapping[int, tuple[str, type, Any]] = {
    3: ("model_type", int, 1),
    24: ("treat_whitespace_as_suffix", bool, False),
    35: ("byte_fallback", bool, False),
    46: ("bos", str, "<s>"),
    47: ("eos", str, "</s>"),
    48: ("pad", str, "<pad>"),
}
_NORMALIZER_FIELDS: Mapping[int, tuple[str, type, Any]] = {
    1: ("name", str, ""),
    2: ("charsmap", bytes, b""),
    3: ("add_dummy_prefix", bool, True),
    4: ("remove_extra_whitespaces", bool, True),
    5: ("escape_whitespaces", bool, True),
}
_ROLES = ("bos", "eos", "pad")


class PieceType(IntEnum):
    """The types of a piece, with sentencepiece's numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelType(IntEnum):
    """The algorithms of sentencepiece, with its numbers."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class Piece:
    """A piece of text, with what it is worth."""

    text: str
    score: float
    type: PieceType


@dataclass(frozen=True)
class PieceModel:
    """What a tokenizer.model says."""

    type: ModelType
    pieces: tuple[Piece, ...]  # index is the id
    roles: Mapping[str, str]  # unk, bos, eos, pad → the text of its piece, where the model has one
    has_byte_fallback: bool
    has_space_suffix: bool
    charsmap: bytes  # replaces characters before anything else; empty: none
    adds_prefix: bool  # a space before the text
    collapses_spaces: bool  # runs of spaces to one, and none at either end
    escapes_spaces: bool  # "▁" for a space


def read_model(path: Path) -> PieceModel:
    """Read a tokenizer.model; a damaged or cut one is a Failure."""
    content = read_bytes(path)
    if is_ranks(content):
        what = f"{path.name}: tiktoken's ranks, which do not say how text is split, not a sentencepiece model"
        raise Failure(what, "add the tokenizer.json of the model")
    pieces: list[Piece] = []
    specs: dict[int, dict[str, Any]] = {}
    try:
        for number, value in read_fields(content):
            if number == _PIECE:
                pieces.append(_piece(_message(value, _PIECE_FIELDS)))
            elif number == _TRAINER:
                specs[number] = _message(value, _TRAINER_FIELDS)
            elif number == _NORMALIZER:
                specs[number] = _message(value, _NORMALIZER_FIELDS)
    except (ValueError, IndexError):
        raise Failure(f"{path.name}: not a sentencepiece model, or a damaged one", BROKEN) from None
    if not pieces or len(specs) != 2:
        missing = "pieces" if not pieces else "settings after its pieces"
        raise Failure(f"{path.name}: a sentencepiece model without {missing}: it is cut short", BROKEN)
    _check_pieces(pieces, path.name)
    charsmap = specs[_NORMALIZER]["charsmap"]
    if charsmap and not is_sound(charsmap):
        raise Failure(f"{path.name}: the table of letters to replace is damaged", BROKEN)
    trainer, normalizer = specs[_TRAINER], specs[_NORMALIZER]
    try:
        model_type = ModelType(trainer["model_type"])
    except ValueError:
        what = f"{path.name}: a sentencepiece model of the unknown type {trainer['model_type']}"
        raise Failure(what, BROKEN) from None
    return PieceModel(
        type=model_type,
        pieces=tuple(pieces),
        roles=_roles(trainer, pieces),
        has_byte_fallback=trainer["byte_fallback"],
        has_space_suffix=trainer["treat_whitespace_as_suffix"],
        charsmap=normalizer["charsmap"],
        adds_prefix=normalizer["add_dummy_prefix"],
        collapses_spaces=normalizer["remove_extra_whitespaces"],
        escapes_spaces=normalizer["escape_whitespaces"],
    )


def _message(value: object, fields: Mapping[int, tuple[str, type, Any]]) -> dict[str, Any]:
    """Read the known fields of a message; what is left out has its default."""
    if not isinstance(value, bytes):
        raise ValueError  # noqa: TRY004  (it is the file that is wrong)
    found = {name: default for name, _, default in fields.values()}
    for number, raw in read_fields(value):
        if number in fields:
            name, kind, _ = fields[number]
            found[name] = _typed(raw, kind)
    return found


def _typed(raw: float | bytes, kind: type) -> Any:
    if kind in (str, bytes):
        if not isinstance(raw, bytes):
            raise ValueError
        return raw.decode("utf-8") if kind is str else raw
    if isinstance(raw, bytes) or isinstance(raw, float) != (kind is float):
        raise ValueError
    if kind is float and not math.isfinite(raw):
        raise ValueError
    # protobuf writes a negative int32 as the 64 bits of its complement.
    return kind(raw) if kind is not int else int(raw) - (1 << 64 if raw >> 63 else 0)  # type: ignore[operator]


def _piece(fields: Mapping[str, Any]) -> Piece:
    return Piece(fields["text"], fields["score"], PieceType(fields["type"]))


def _check_pieces(pieces: list[Piece], name: str) -> None:
    seen: dict[str, int] = {}
    for identity, piece in enumerate(pieces):
        if not piece.text:
            raise Failure(f"{name}: piece {identity} is empty", BROKEN)
        if seen.setdefault(piece.text, identity) != identity:
            what = f"{name}: pieces {seen[piece.text]} and {identity} are both {shown(piece.text)!r}"
            raise Failure(what, BROKEN)


def _roles(trainer: Mapping[str, Any], pieces: list[Piece]) -> dict[str, str]:
    """Find the pieces with a role as sentencepiece does: control pieces, by their text."""
    controls = {piece.text for piece in pieces if piece.type is PieceType.CONTROL}
    found = {role: trainer[role] for role in _ROLES if trainer[role] in controls}
    unknown = next((piece.text for piece in pieces if piece.type is PieceType.UNKNOWN), None)
    return found if unknown is None else {**found, "unk": unknown}

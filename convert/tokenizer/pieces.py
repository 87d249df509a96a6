"""A sentencepiece model as a tokenizer.json has it: its pieces, merges and steps."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.errors import Failure, shown
from convert.tokenizer.document import Document, starting_with
from convert.tokenizer.file import Json
from convert.tokenizer.model import AddedToken
from convert.tokenizer.sentencepiece import ModelType, Piece, PieceModel, PieceType, read_model
from convert.tokenizer.spacing import SPACE, SPACES_STEP, SPACES_TRIMMED

_CONVERTED = "add the tokenizer.json of the model, as Transformers converts it"
_TEXT_TYPES = frozenset({PieceType.NORMAL, PieceType.USER_DEFINED})


def from_pieces(path: Path, settings: Mapping[str, Any], renamed: Mapping[int, str]) -> Document:
    """Read a tokenizer.model; `settings` is tokenizer_config.json, `renamed` gives pieces other texts."""
    model = read_model(path)
    _check_supported(model, path.name)
    vocab = {piece.text: identity for identity, piece in enumerate(model.pieces)}
    merges: list[tuple[str, str]] = []
    if model.type is ModelType.BPE:
        vocab |= _byte_letters(model, path.name)
        merges = _merges(model, vocab)
    names = _with_names(vocab, renamed)
    # Nothing makes a piece that has become another token.
    merges = [(left, right) for left, right in merges if not names.keys() & {left, right, left + right}]
    roles = {role: names.get(text, text) for role, text in model.roles.items()}
    prefix = settings.get("add_prefix_space")
    adds_prefix = prefix if isinstance(prefix, bool) else model.adds_prefix
    return Document(
        origin=path.name,
        vocab={names.get(text, text): identity for text, identity in vocab.items()},
        merges=tuple(merges),
        scores=tuple(piece.score for piece in model.pieces),
        is_unigram=model.type is ModelType.UNIGRAM,
        added=tuple(
            AddedToken(identity, names.get(piece.text, piece.text), piece.type is PieceType.CONTROL)
            for identity, piece in enumerate(model.pieces)
            if piece.type in (PieceType.CONTROL, PieceType.USER_DEFINED)
        ),
        **_steps(model, adds_prefix=adds_prefix, is_legacy=settings.get("legacy") is not False),
        unk_token=roles.get("unk"),
        fuse_unk=True,
        byte_fallback=model.has_byte_fallback,
        roles=roles,
        post_processor=starting_with(roles["bos"]) if "bos" in roles else None,
    )


def _check_supported(model: PieceModel, name: str) -> None:
    if model.type not in (ModelType.UNIGRAM, ModelType.BPE):
        kind = model.type.name.lower()
        raise Failure(f"{name}: a sentencepiece model of type {kind} is not supported", "BPE and unigram are")
    if model.has_space_suffix:
        what = f"{name}: treat_whitespace_as_suffix is on, and only a space before a word is supported"
        raise Failure(what, _CONVERTED)
    if not model.escapes_spaces:
        what = f"{name}: escape_whitespaces is off, and only {SPACE!r} for a space is supported"
        raise Failure(what, _CONVERTED)
    unused = next((piece.text for piece in model.pieces if piece.type is PieceType.UNUSED), None)
    if unused is not None:
        what = f"{name}: the piece {shown(unused)!r} is marked unused, which a tokenizer.json cannot say"
        raise Failure(what, _CONVERTED)


def _byte_letters(model: PieceModel, name: str) -> dict[str, int]:
    """Give letters that only longer pieces contain the ids of their bytes, since merges begin with them."""
    texts = {piece.text for piece in model.pieces if piece.type in _TEXT_TYPES}
    found = {}
    for piece in model.pieces:
        if piece.type is not PieceType.NORMAL:
            continue
        for letter in piece.text if len(piece.text) > 1 else ():
            if letter in texts or letter in found:
                continue
            byte = f"<0x{ord(letter):02X}>"
            identity = next((i for i, each in enumerate(model.pieces) if each.text == byte), None)
            if ord(letter) > 0x7F or identity is None:
                what = f"{name}: {letter!r} is no piece, and the piece {shown(piece.text)!r} contains it"
                raise Failure(what, _CONVERTED)
            found[letter] = identity
    return found


def _merges(model: PieceModel, vocab: Mapping[str, int]) -> list[tuple[str, str]]:
    """List every cut of a piece into two, best piece first: sentencepiece joins whatever makes a piece."""
    whole = {piece.text for piece in model.pieces if piece.type in _TEXT_TYPES}
    letters = {text for text in vocab if len(text) == 1}
    known = whole | letters

    def best_first(entry: tuple[int, Piece]) -> tuple[float, int]:
        return -entry[1].score, entry[0]

    return [
        (piece.text[:cut], piece.text[cut:])
        for _, piece in sorted(enumerate(model.pieces), key=best_first)
        if piece.type in _TEXT_TYPES
        for cut in range(1, len(piece.text))
        if piece.text[:cut] in known and piece.text[cut:] in known
    ]


def _with_names(vocab: Mapping[str, int], renamed: Mapping[int, str]) -> dict[str, str]:
    """Map the texts of pieces to those that other files give their ids."""
    return {
        text: renamed[identity]
        for text, identity in vocab.items()
        if renamed.get(identity, text) != text and renamed[identity] not in vocab
    }


def _steps(model: PieceModel, *, adds_prefix: bool, is_legacy: bool) -> dict[str, Json]:
    """Spell out what sentencepiece does to text; without `legacy`, only the text's beginning gets a space."""
    normalizers: list[Json] = []
    if model.charsmap:
        charsmap = base64.b64encode(model.charsmap).decode()
        normalizers.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if model.collapses_spaces:
        normalizers += SPACES_TRIMMED
    splitter = None
    if is_legacy or not adds_prefix:
        normalizers += [{"type": "Prepend", "prepend": SPACE}] if adds_prefix else []
        normalizers.append(SPACES_STEP)
    else:
        splitter = {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "first", "split": False}
    decoders: list[Json] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        *([{"type": "ByteFallback"}] if model.has_byte_fallback else []),
        {"type": "Fuse"},
        *([{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if adds_prefix else []),
    ]
    normalizer = {"type": "Sequence", "normalizers": normalizers} if len(normalizers) > 1 else None
    return {
        "normalizer": normalizer or next(iter(normalizers), None),
        "pre_tokenizer": splitter,
        "decoder": {"type": "Sequence", "decoders": decoders},
    }

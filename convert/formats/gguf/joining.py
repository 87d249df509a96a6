"""How llama.cpp joins letters to tokens: its kinds of vocabulary, and what each of them cannot be given."""

import json
from enum import StrEnum

from convert.errors import Failure
from convert.tokenizer import Kind, Tokenizer, TokenType
from convert.tokenizer.encoder import open_encoder

_LEAVE_OUT = "leave the gguf target out; the other formats contain these steps"


class VocabularyModel(StrEnum):
    """The values of `tokenizer.ggml.model` that we write."""

    BYTES = "gpt2"  # bytes as printable letters, and merges
    SCORES = "llama"  # any two that make a token are joined, the best first
    MERGES = "gemma4"  # spaces as "▁", and merges
    UNIGRAM = "t5"


def vocabulary_model(tokenizer: Tokenizer) -> VocabularyModel:
    """Choose the one that reads text as the source does; a Failure where none does."""
    return VocabularyModel(tokenizer.facts.find("gguf model", lambda: _choose(tokenizer)))


def _choose(tokenizer: Tokenizer) -> VocabularyModel:
    if tokenizer.kind is Kind.BYTE_BPE:
        return VocabularyModel.BYTES
    if tokenizer.kind is Kind.UNIGRAM:
        _check_unigram(tokenizer)
        return VocabularyModel.UNIGRAM
    if tokenizer.spacing.charsmap or tokenizer.spacing.collapses:
        how = "replace letters" if tokenizer.spacing.charsmap else "trim spaces"
        raise Failure(f"tokenizer: llama.cpp does not {how} before it merges pieces", _LEAVE_OUT)
    missing = sorted({f"<0x{byte:02X}>" for byte in range(256)} - set(tokenizer.tokens))
    if missing:
        what = f"tokenizer: the byte token {missing[0]} is missing, which llama.cpp falls back on"
        raise Failure(what, _LEAVE_OUT)
    other = _other_join(tokenizer)
    if other is None:
        return VocabularyModel.SCORES
    if not tokenizer.spacing.has_prefix and _merges_by_line(tokenizer):
        return VocabularyModel.MERGES
    left, right = other
    what = f"tokenizer: llama.cpp would join {left!r} and {right!r}, which the source does not"
    raise Failure(what, _LEAVE_OUT)


def _check_unigram(tokenizer: Tokenizer) -> None:
    """Refuse what llama.cpp's unigram leaves out: bytes for unknown letters, and some ways with spaces."""
    if json.loads(tokenizer.json)["model"]["byte_fallback"]:
        raise Failure("tokenizer: llama.cpp's unigram has no bytes for letters without a piece", _LEAVE_OUT)
    if tokenizer.unk_id is None:
        raise Failure("tokenizer: llama.cpp's unigram needs a token for what it does not know", _LEAVE_OUT)
    if tokenizer.spacing.collapses and not tokenizer.spacing.has_prefix:
        raise Failure("tokenizer: llama.cpp puts a space before a text whose spaces it trims", _LEAVE_OUT)


def _other_join(tokenizer: Tokenizer) -> tuple[str, str] | None:
    """Find two tokens that make a third without a merge of the source, which scores would join."""
    # A dict for its order: the same vocabulary is refused with the same words.
    plain = dict.fromkeys(
        text for text, kind in zip(tokenizer.tokens, tokenizer.types, strict=True) if kind is TokenType.NORMAL
    )
    merges = set(tokenizer.merges)
    for token in plain:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            is_reached = (cut == 1 or left in plain) and (cut == len(token) - 1 or right in plain)
            if is_reached and (left, right) not in merges:
                return left, right
    return None


def _merges_by_line(tokenizer: Tokenizer) -> bool:
    """Return whether merges stay within a line, and make each run of line ends that is a token.

    llama.cpp splits lines before it merges, and takes such a run whole.
    """
    if any("\n" in left + right and (left + right).strip("\n") for left, right in tokenizer.merges):
        return False
    pairs = zip(tokenizer.tokens, tokenizer.types, strict=True)
    runs = [text for text, kind in pairs if kind is TokenType.NORMAL and set(text) == {"\n"}]
    encoder = open_encoder(tokenizer.json)
    return all(len(encoder.encode(run, add_special_tokens=False).ids) == 1 for run in runs)

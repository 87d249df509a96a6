"""A tokenizer as GGUF key-values, such that llama.cpp splits, joins, wraps and stops as the source does."""

import json
from typing import Any, TypeAlias

from gguf import GGUFValueType, Keys

from convert.errors import Failure
from convert.tokenizer import Kind, Tokenizer, TokenType
from convert.tokenizer.spacing import SPACE
from convert.tokenizer.splitter import KNOW_ONLY_ASCII_CASE

Field: TypeAlias = tuple[str, GGUFValueType, Any, GGUFValueType | None]

_KEY = Keys.Tokenizer


def vocabulary_fields(tokenizer: Tokenizer) -> list[Field]:
    """List (key, type, value, type of an array's items), in the order of llama.cpp's own converter."""
    if tokenizer.eos_id is None:
        raise Failure(
            "the tokenizer has no end-of-text token, and llama.cpp would choose one by itself",
            "name the eos_token in tokenizer_config.json",
        )
    _CHECKS[tokenizer.kind](tokenizer)
    fields: list[Field] = [
        (_KEY.MODEL, GGUFValueType.STRING, _MODELS[tokenizer.kind], None),
        (_KEY.PRE, GGUFValueType.STRING, tokenizer.pre, None),
        _array(_KEY.LIST, GGUFValueType.STRING, _texts(tokenizer)),
    ]
    if tokenizer.scores is not None:
        fields.append(_array(_KEY.SCORES, GGUFValueType.FLOAT32, list(tokenizer.scores)))
    fields.append(_array(_KEY.TOKEN_TYPE, GGUFValueType.INT32, [int(kind) for kind in tokenizer.types]))
    if tokenizer.scores is None:
        merges = [f"{left} {right}" for left, right in tokenizer.merges]
        fields.append(_array(_KEY.MERGES, GGUFValueType.STRING, merges))
    fields += [(key, GGUFValueType.UINT32, identity, None) for key, identity in _roles(tokenizer)]
    fields += [
        (_KEY.ADD_BOS, GGUFValueType.BOOL, tokenizer.add_bos, None),
        (_KEY.ADD_EOS, GGUFValueType.BOOL, tokenizer.add_eos, None),
    ]
    if tokenizer.kind is not Kind.BYTE_BPE:
        fields.append((_KEY.ADD_PREFIX, GGUFValueType.BOOL, tokenizer.spacing.has_prefix, None))
    if tokenizer.kind is Kind.UNIGRAM:
        fields.append((_KEY.REMOVE_EXTRA_WS, GGUFValueType.BOOL, tokenizer.spacing.collapses, None))
        if tokenizer.spacing.charsmap:
            table = list(tokenizer.spacing.charsmap)
            fields.append(_array(_KEY.PRECOMPILED_CHARSMAP, GGUFValueType.UINT8, table))
    if tokenizer.chat_template is not None:
        fields.append((_KEY.CHAT_TEMPLATE, GGUFValueType.STRING, tokenizer.chat_template, None))
    return fields


def vocabulary_deviations(tokenizer: Tokenizer) -> list[str]:
    """List how llama.cpp reads text differently, a line each, for the manifest."""
    found = []
    # Quotes within tokens are escaped, so these can be nothing but the steps themselves.
    if b'{"type":"NFC"}' in tokenizer.json:
        found.append("tokenizer: llama.cpp does not bring text to NFC before it splits it")
    if tokenizer.kind is not Kind.BYTE_BPE and tokenizer.spacing.is_first_only:
        found.append(
            "tokenizer: llama.cpp puts a space before the text even where it begins with a space, "
            "and again after each special token"
        )
    if tokenizer.kind is Kind.UNIGRAM and tokenizer.spacing.has_prefix and not tokenizer.spacing.collapses:
        found.append("tokenizer: llama.cpp puts no space before a text of spaces alone")
    if tokenizer.pre in KNOW_ONLY_ASCII_CASE:
        found.append(
            "tokenizer: llama.cpp splits words at combining marks, "
            "and within a word only where a to z changes case"
        )
    runs = {len(token.content) for token in tokenizer.added if token.content.strip(SPACE) == ""}
    if tokenizer.kind is Kind.SPM_BPE and runs:
        found.append(f"tokenizer: llama.cpp cuts runs of more than {max(runs)} spaces at other places")
    stripping = sum(token.lstrip or token.rstrip for token in tokenizer.added)
    if stripping:
        found.append(
            f"tokenizer: {stripping} added tokens take in the spaces around them, "
            "which llama.cpp does for models of one name only"
        )
    left = _unwritten(tokenizer)[1:]
    if left:
        names = ", ".join(tokenizer.tokens[identity] for identity in left)
        found.append(f"tokenizer: GGUF has no key left to say that these also end generation: {names}")
    return found


def _array(key: str, kind: GGUFValueType, values: list[Any]) -> Field:
    return key, GGUFValueType.ARRAY, values, kind


def _roles(tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """List the special tokens; without a key llama.cpp assumes ids, so a missing bos becomes eos."""
    bos = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    # Any token may be the end of message: llama.cpp only stops there.
    further = next(iter(_unwritten(tokenizer)), None)
    roles = (
        (_KEY.BOS_ID, bos),
        (_KEY.EOS_ID, tokenizer.eos_id),
        (_KEY.EOT_ID, tokenizer.eot_id),
        (_KEY.EOM_ID, further),
        (_KEY.UNK_ID, tokenizer.unk_id),
        (_KEY.PAD_ID, tokenizer.pad_id),
    )
    return [(key, identity) for key, identity in roles if identity is not None]


# src/llama-vocab.cpp, special_eog_ids: these stop generation by their text.
_STOPS_BY_TEXT = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>",
    "<|end_of_text|>", "<eos>", "<EOT>", "[EOS]", "<|return|>", "<|call|>",
})  # fmt: skip


def _unwritten(tokenizer: Tokenizer) -> list[int]:
    """List the ids that end generation and that llama.cpp finds neither by role nor by text."""
    known = (tokenizer.eos_id, tokenizer.eot_id)
    return [
        identity
        for identity in tokenizer.eog_ids
        if identity not in known and tokenizer.tokens[identity] not in _STOPS_BY_TEXT
    ]


def _texts(tokenizer: Tokenizer) -> list[str]:
    """Spell tokens as llama.cpp looks for them; it aborts on two user-defined ones that are equal."""
    taken = set(tokenizer.tokens)
    texts = []
    for text, kind in zip(tokenizer.tokens, tokenizer.types, strict=True):
        plain = text
        if kind is TokenType.USER_DEFINED and tokenizer.kind is not Kind.BYTE_BPE:
            plain = text.replace(SPACE, " ")
            if plain != text and plain in taken:
                plain = text
            taken.add(plain)
        texts.append(plain)
    return texts


def _check_unigram(tokenizer: Tokenizer) -> None:
    """Refuse what llama.cpp's unigram leaves out: bytes for unknown letters, and some ways with spaces."""
    content = json.loads(tokenizer.json)["model"]
    if content["byte_fallback"]:
        raise Failure("tokenizer: llama.cpp's unigram has no bytes for letters without a piece", _LEAVE_OUT)
    if tokenizer.unk_id is None:
        raise Failure("tokenizer: llama.cpp's unigram needs a token for what it does not know", _LEAVE_OUT)
    if tokenizer.spacing.collapses and not tokenizer.spacing.has_prefix:
        raise Failure("tokenizer: llama.cpp puts a space before a text whose spaces it trims", _LEAVE_OUT)


def _check_merged(tokenizer: Tokenizer) -> None:
    """Refuse what llama.cpp does not do to text before it merges pieces, and merges of another order."""
    if tokenizer.spacing.charsmap or tokenizer.spacing.collapses:
        how = "replace letters" if tokenizer.spacing.charsmap else "trim spaces"
        raise Failure(f"tokenizer: llama.cpp does not {how} before it merges pieces by score", _LEAVE_OUT)
    _check_joins(tokenizer)


def _check_joins(tokenizer: Tokenizer) -> None:
    """Refuse merges that llama.cpp would make and the source does not: it joins any two that make a token."""
    # A dict for its order: the same vocabulary is refused with the same words.
    plain = {
        text: None
        for text, kind in zip(tokenizer.tokens, tokenizer.types, strict=True)
        if kind is TokenType.NORMAL
    }
    merges = set(tokenizer.merges)
    for token in plain:
        for cut in range(1, len(token)):
            left, right = token[:cut], token[cut:]
            is_reached = (cut == 1 or left in plain) and (cut == len(token) - 1 or right in plain)
            if is_reached and (left, right) not in merges:
                raise Failure(
                    f"tokenizer: llama.cpp would join {left!r} and {right!r}, which the source does not",
                    _LEAVE_OUT,
                )
    missing = sorted({f"<0x{byte:02X}>" for byte in range(256)} - set(tokenizer.tokens))
    if missing:
        raise Failure(f"tokenizer: the byte token {missing[0]} is missing, which llama.cpp falls back on")


_LEAVE_OUT = "leave the gguf target out; the other formats contain these steps"
_MODELS = {Kind.BYTE_BPE: "gpt2", Kind.SPM_BPE: "llama", Kind.UNIGRAM: "t5"}
_CHECKS = {Kind.BYTE_BPE: lambda _: None, Kind.SPM_BPE: _check_merged, Kind.UNIGRAM: _check_unigram}

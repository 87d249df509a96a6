"""A tokenizer as GGUF key-values, such that llama.cpp splits, joins, wraps and stops as the source does."""

import json
from typing import Any, TypeAlias

from gguf import GGUFValueType, Keys

from convert.errors import Failure, shown
from convert.formats.gguf.joining import VocabularyModel, vocabulary_model
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
    model = vocabulary_model(tokenizer)
    texts, types = _tokens(tokenizer, model)
    fields: list[Field] = [
        (_KEY.MODEL, GGUFValueType.STRING, str(model), None),
        (_KEY.PRE, GGUFValueType.STRING, tokenizer.pre, None),
        _array(_KEY.LIST, GGUFValueType.STRING, texts),
    ]
    if tokenizer.scores is not None:
        fields.append(_array(_KEY.SCORES, GGUFValueType.FLOAT32, list(tokenizer.scores)))
    fields.append(_array(_KEY.TOKEN_TYPE, GGUFValueType.INT32, types))
    if model in (VocabularyModel.BYTES, VocabularyModel.MERGES):
        merges = [f"{left} {right}" for left, right in tokenizer.merges]
        fields.append(_array(_KEY.MERGES, GGUFValueType.STRING, merges))
    fields += [(key, GGUFValueType.UINT32, identity, None) for key, identity in _roles(tokenizer)]
    fields += [
        (_KEY.ADD_BOS, GGUFValueType.BOOL, tokenizer.add_bos and not tokenizer.opening, None),
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
    if texts := tokenizer.split_differently:
        found.append(
            f'tokenizer: llama.cpp splits text in other places under the name "{tokenizer.pre}", '
            f"by which its converter knows this vocabulary: {shown(json.dumps(texts[0], ensure_ascii=False))}"
        )
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
    model = vocabulary_model(tokenizer)
    if model is VocabularyModel.MERGES and not tokenizer.add_bos:
        found.append(
            "tokenizer: llama.cpp puts bos before every text where a vocabulary has merges and spaces"
        )
    runs = {len(token.content) for token in tokenizer.added if token.content.strip(SPACE) == ""}
    if model is VocabularyModel.SCORES and runs:
        found.append(f"tokenizer: llama.cpp cuts runs of more than {max(runs)} spaces at other places")
    stripping = sum(token.lstrip or token.rstrip for token in tokenizer.added)
    if stripping:
        found.append(
            f"tokenizer: {stripping} added tokens take in the spaces around them, "
            "which llama.cpp does for models of one name only"
        )
    if tokenizer.opening:
        ids = [each for each in (tokenizer.bos_id, *tokenizer.opening) if each is not None]
        names = "".join(tokenizer.tokens[each] for each in ids)
        found.append(f"tokenizer: llama.cpp puts nothing before a text, and the source {names}")
    left = _unwritten(tokenizer)[1 if tokenizer.eot_id is not None else 2 :]
    if left:
        names = ", ".join(tokenizer.tokens[identity] for identity in left)
        found.append(f"tokenizer: GGUF has no key left to say that these also end generation: {names}")
    return found


def _array(key: str, kind: GGUFValueType, values: list[Any]) -> Field:
    return key, GGUFValueType.ARRAY, values, kind


def _roles(tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """List the special tokens; without a key llama.cpp assumes ids, so a missing bos becomes eos."""
    bos = tokenizer.eos_id if tokenizer.bos_id is None else tokenizer.bos_id
    roles = (
        (_KEY.BOS_ID, bos),
        (_KEY.EOS_ID, tokenizer.eos_id),
        *_further_ends(tokenizer),
        (_KEY.UNK_ID, tokenizer.unk_id),
        (_KEY.PAD_ID, tokenizer.pad_id),
    )
    return [(key, identity) for key, identity in roles if identity is not None]


def _further_ends(tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """List the ends of turn and of message; any token may be either, since llama.cpp only stops there."""
    keys = [_KEY.EOT_ID, _KEY.EOM_ID]
    known = [] if tokenizer.eot_id is None else [tokenizer.eot_id]
    return list(zip(keys, [*known, *_unwritten(tokenizer)], strict=False))


# src/llama-vocab.cpp, special_eog_ids: these stop generation by their text.
_STOPS_BY_TEXT = frozenset({
    "<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>",
    "<end_of_turn>", "<|endoftext|>", "</s>", "<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]",
    "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
    "<｜end▁of▁sentence｜>", "[e~[",
})  # fmt: skip


def _unwritten(tokenizer: Tokenizer) -> list[int]:
    """List the ids that end generation and that llama.cpp finds neither by role nor by text."""
    known = (tokenizer.eos_id, tokenizer.eot_id)
    return [
        identity
        for identity in tokenizer.eog_ids
        if identity not in known and tokenizer.tokens[identity] not in _STOPS_BY_TEXT
    ]


# common/chat.cpp reads these in the text of an answer, where a control token would not be seen.
_SHOWN = frozenset({
    "<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
    '<|"|>',
})  # fmt: skip


def _tokens(tokenizer: Tokenizer, model: VocabularyModel) -> tuple[list[str], list[TokenType]]:
    """Spell tokens as llama.cpp looks for them; it aborts on two that are equal."""
    texts, types = list(tokenizer.tokens), list(tokenizer.types)
    taken, cut_out = set(texts), TokenType.USER_DEFINED
    for identity, text in enumerate(tokenizer.tokens):
        if text in _SHOWN:
            types[identity] = cut_out
        if types[identity] is not cut_out or SPACE not in text or model is VocabularyModel.BYTES:
            continue
        if model is VocabularyModel.MERGES:
            types[identity] = TokenType.NORMAL  # merges make it
        elif text.replace(SPACE, " ") not in taken:
            texts[identity] = text.replace(SPACE, " ")
        taken.add(texts[identity])
    return texts, types

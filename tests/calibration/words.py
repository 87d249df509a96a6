"""A tokenizer that makes a token of each word, and its kin."""

from __future__ import annotations

from typing import Any

import tokenizers

from convert.tokenizer import Kind, Tokenizer, TokenType

WORDS = [f"w{index}" for index in range(200)]
BOS, UNKNOWN = 200, 201


def tokenizer(**changes: Any) -> Tokenizer:
    """Make a token of each word, so that windows can be read."""
    vocabulary = {word: index for index, word in enumerate([*WORDS, "<s>", "<unk>"])}
    encoder = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))  # noqa: S106
    encoder.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    encoder.add_special_tokens(["<s>"])
    encoder.enable_truncation(5)
    values: dict[str, Any] = {
        "kind": Kind.SPM_BPE,
        "tokens": tuple(vocabulary),
        "types": (TokenType.NORMAL,) * len(vocabulary),
        "merges": (),
        "scores": None,
        "added": (),
        "bos_id": BOS,
        "eos_id": None,
        "unk_id": UNKNOWN,
        "pad_id": None,
        "eot_id": None,
        "eog_ids": (),
        "add_bos": False,
        "add_eos": False,
        "chat_template": None,
        "json": encoder.to_str().encode(),
        "config": {},
    }
    return Tokenizer(**{**values, **changes})

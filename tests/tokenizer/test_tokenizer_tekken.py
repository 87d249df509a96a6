"""tekken.json alone: what tiktoken makes of its ranks, in the canonical form and in llama.cpp."""

from __future__ import annotations

import base64
import functools
import json
from typing import TYPE_CHECKING, Any

import pytest
import tiktoken
from tokenizers import Tokenizer as Encoder

from convert.errors import Failure
from convert.model.splitting import BY_CASE
from convert.tokenizer import Kind, Tokenizer, TokenType, load
from convert.tokenizer.bytelevel import spell
from tests.tokenizer.splitting import KNOWN, trained
from tests.tokenizer.test_tokenizer_agreement import STRINGS, encoders
from tests.tokenizer.vocabularies import new_folder, write_json
from tests.tokenizer.vocabulary_runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMED = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>")
RESERVED = 20


@functools.cache
def content() -> str:
    """A tekken.json as its publishers write it, with more tokens than the model knows."""
    byte_of = {spell(bytes([byte])): byte for byte in range(256)}
    merged = [left + right for left, right in trained(KNOWN["tekken"], skips_merges=True).merges]
    tokens = [bytes([byte]) for byte in range(256)]
    tokens += [bytes(byte_of[letter] for letter in token) for token in merged]
    vocab = [
        {"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None}
        for rank, token in enumerate(tokens)
    ]
    return json.dumps({
        "config": {
            "pattern": BY_CASE,
            "num_vocab_tokens": len(vocab),
            "default_vocab_size": RESERVED + len(vocab) - 40,
            "default_num_special_tokens": RESERVED,
            "version": "v7",
        },
        "vocab": vocab,
        "special_tokens": [
            {"rank": rank, "token_str": text, "is_control": True} for rank, text in enumerate(NAMED)
        ],
    })  # fmt: skip


def folder_with(change: Callable[[dict[str, Any]], object] = lambda _: None, **settings: Any) -> Path:
    """A checkpoint's folder with tekken.json and nothing else, unless there are settings."""
    folder = new_folder()
    found = json.loads(content())
    change(found)
    write_json(folder / "tekken.json", found)
    if settings:
        write_json(folder / "tokenizer_config.json", settings)
    return folder


@functools.cache
def opened() -> Tokenizer:
    """The canonical form of it."""
    return load(folder_with(), "mistral", {}, 1200)


@functools.cache
def source() -> tiktoken.Encoding:
    """The library by which mistral-common reads it: the same ranks, all ids above the special tokens."""
    found = json.loads(content())
    size = found["config"]["default_vocab_size"] - RESERVED
    ranks = {base64.b64decode(each["token_bytes"]): each["rank"] for each in found["vocab"][:size]}
    return tiktoken.Encoding("tekken", pat_str=BY_CASE, mergeable_ranks=ranks, special_tokens={})


def test_canonical_file_agrees_with_tiktoken() -> None:
    expected = [[token + RESERVED for token in source().encode(text)] for text in STRINGS]
    assert encoders(Encoder.from_str(opened().json.decode()))[False](STRINGS) == expected


def test_llama_cpp_splits_it_as_tekken() -> None:
    assert (opened().kind, opened().pre) == (Kind.BYTE_BPE, "tekken")
    runtime = Runtime(opened(), new_folder() / "v.gguf")
    texts = [text for text in STRINGS if text.isascii()]
    ours = encoders(Encoder.from_str(opened().json.decode()))
    assert [runtime.encode(text, special=False) for text in texts] == ours[False](texts)
    chat = "[INST]Why?[/INST]"
    expected = Encoder.from_str(opened().json.decode()).encode(chat).ids
    assert runtime.encode(chat, special=True, wrapped=True) == expected
    assert (expected[0], expected[1], expected[-1]) == (1, 3, 4)
    assert runtime.stops() == [2]


def test_special_tokens_come_first() -> None:
    tekken = opened()
    assert tekken.tokens[: len(NAMED) + 1] == (*NAMED, "<SPECIAL_6>")
    assert set(tekken.types[:RESERVED]) == {TokenType.CONTROL}
    assert (tekken.unk_id, tekken.bos_id, tekken.eos_id, tekken.pad_id) == (0, 1, 2, 5)
    assert tekken.add_bos
    assert not load(folder_with(add_bos_token=False), "mistral", {}, 1200).add_bos
    size = json.loads(content())["config"]["default_vocab_size"]
    assert tekken.types[size - 1 : size + 1] == (TokenType.NORMAL, TokenType.UNUSED)


@pytest.mark.slow
def test_transformers_agrees() -> None:
    from transformers.integrations.mistral.tokenizer import convert_tekken_tokenizer  # noqa: PLC0415

    theirs = convert_tekken_tokenizer(str(folder_with() / "tekken.json"))
    expected = [theirs(text, add_special_tokens=False)["input_ids"] for text in STRINGS]
    assert encoders(Encoder.from_str(opened().json.decode()))[True](STRINGS) == expected


def repeat(found: dict[str, Any]) -> None:
    """Give the last token of the vocabulary the bytes of the first."""
    found["vocab"][300]["token_bytes"] = found["vocab"][0]["token_bytes"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("config"), "config.pattern is missing"),
        (lambda c: c["config"].pop("pattern"), "config.pattern is missing"),
        (lambda c: c.pop("vocab"), "vocab is missing"),
        (lambda c: c.pop("special_tokens"), "an early form, which does not list its special_tokens"),
        (lambda c: c.update(special_tokens={}), "special_tokens is not a JSON array"),
        (lambda c: c["special_tokens"].append({"rank": 6}), "special_tokens[6]: a rank and a token_str"),
        (lambda c: c["special_tokens"].append({"rank": 5, "token_str": "x"}), "the rank 5 is taken"),
        (lambda c: c["special_tokens"].pop(2), "do not count from 0 up"),
        (lambda c: c["config"].update(default_num_special_tokens=3), "is 3, and it has 6"),
        (lambda c: c["config"].update(default_vocab_size=99999), "default_vocab_size is 99999, and it has"),
        (lambda c: c["config"].update(default_vocab_size="x"), "default_vocab_size is 'x'"),
        (lambda c: c["vocab"].pop(7), "vocab[7]: the token_bytes of rank 7 were expected"),
        (lambda c: c["vocab"][7].pop("token_bytes"), "vocab[7]: the token_bytes of rank 7 were expected"),
        (lambda c: c["vocab"][7].update({"token_bytes": "*"}), "vocab[7]: the token_bytes of rank 7"),
        (lambda c: c["vocab"][7].update(token_bytes=7), "vocab[7]: the token_bytes of rank 7"),
        (lambda c: c["vocab"].insert(7, None), "vocab[7]: the token_bytes of rank 7"),
        (repeat, "vocab[300]: the bytes of rank 0 again"),
        (lambda c: c["vocab"].pop(0), "vocab[0]: the token_bytes of rank 0"),
    ],
)
def test_a_damaged_file_is_one_line(change: Callable[[dict[str, Any]], object], said: str) -> None:
    with pytest.raises(Failure) as caught:
        load(folder_with(change), "mistral", {}, 1200)
    assert caught.value.message.startswith("tekken.json: ")
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint

"""A damaged file is one line that names the file and the place."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_fields
from convert.formats.onnx.vocabulary import files as onnx_files
from convert.tokenizer import load
from tests.tokenizer.vocabularies import (
    copy_of,
    gpt2_folder,
    llama3_folder,
    new_folder,
    small_qwen_folder,
    spm_folder,
    write_json,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def fault(folder: Path, model_type: str = "llama", vocab_size: int = 1600) -> str:
    """What a person reads."""
    with pytest.raises(Failure) as caught:
        load(folder, model_type, {}, vocab_size)
    assert "\n" not in caught.value.message
    return caught.value.message


def changed(change: Callable[[dict[str, Any]], object], folder: Path | None = None) -> Path:
    """A copy with tokenizer.json changed."""
    copy = copy_of(folder or llama3_folder())
    content = json.loads((copy / "tokenizer.json").read_text())
    change(content)
    (copy / "tokenizer.json").write_text(json.dumps(content))  # half characters need escapes
    return copy


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json"]
)
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            b'{\n "a": 1,\n oops',
            " is not valid JSON (Expecting property name enclosed in double quotes: line 3 ",
        ),
        (b"", " is not valid JSON (Expecting value: line 1 "),
        (b"[]", " is not a JSON object"),
        (b'{"a": 1, "a": 2}', ": the key a is given twice"),
        (b'{"\xff": 1}', " is not valid JSON ('utf-8' codec can't decode byte 0xff in position 2"),
        (b'{"a":' + b"[" * 100_000, " is not valid JSON (nested too deeply)"),
    ],
    ids=["broken off", "empty", "list", "key twice", "not UTF-8", "too deep"],
)
def test_broken_json(name: str, damage: bytes, said: str) -> None:
    folder = copy_of(llama3_folder())
    (folder / name).write_bytes(damage)
    assert fault(folder).startswith(name + said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("model"), "model is missing"),
        (lambda c: c["model"].pop("vocab"), "model.vocab is missing"),
        (lambda c: c["model"].pop("merges"), "model.merges is missing"),
        (lambda c: c["model"].update(vocab=[]), "model.vocab is not a JSON object"),
        (
            lambda c: (c["model"].update(vocab={}, merges=[]), c.update(added_tokens=[])),
            "model.vocab is empty",
        ),
        (lambda c: c["model"].update(type="WordPiece"), "model.type 'WordPiece' is not supported"),
        (lambda c: c["model"].update(type="Unigram"), "model.vocab is not a JSON array"),
        (
            lambda c: c["model"].update(type="Unigram", vocab=[["a", -1], "b"]),
            "vocab[1]: a token and its score",
        ),
        (lambda c: c["model"].update(type="Unigram", vocab=[["a", -1], ["a", -2]]), "'a' has the id 0 too"),
        (lambda c: c["model"].update(type="Unigram", vocab=[["a", math.nan]]), "NaN is no number"),
        (lambda c: c["model"].update(type="Unigram", vocab=[["a", 0]], unk_id=1), "unk_id 1 is not an id"),
        (lambda c: c["model"].update(end_of_word_suffix="</w>"), "model.end_of_word_suffix '</w>'"),
        (lambda c: c["model"]["vocab"].update(a=1.5), "'a' has the id 1.5"),
        (lambda c: c["model"]["vocab"].update(a=True), "'a' has the id True"),
        (lambda c: c["model"]["vocab"].update(extra=7), "and 'extra' share the id 7"),
        (lambda c: c["model"]["merges"].append(["a", "q☃"]), "'q☃' is not in the vocabulary"),
        (lambda c: c["model"]["merges"].insert(3, "a"), "model.merges[3]: a pair of tokens was"),
        (
            lambda c: c["model"]["merges"].insert(3, ["a", 1]),
            "model.merges[3]: a pair of tokens was",
        ),
        (lambda c: c["added_tokens"].append({"content": "x"}), "added_tokens[4]: a token with its id"),
        (lambda c: c["added_tokens"].append({"id": 1590}), "added_tokens[4]: a token was expected"),
        (
            lambda c: c["added_tokens"].append({"id": 3, "content": "☃"}),
            "the added token '☃' share the id 3",
        ),
        (lambda c: c["added_tokens"].append({"id": 1590, "content": "a"}), "the added token 'a' has two ids"),
        (lambda c: c["added_tokens"].append({"id": 1590, "content": ""}), "the added token 1590 is empty"),
        (lambda c: c["model"]["vocab"].update({"\ud800": 1590}), "half a character"),
        (lambda c: c.update(pre_tokenizer={"type": "Sequence"}), "a Sequence without pretokenizers"),
        (lambda c: c.update(pre_tokenizer=["ByteLevel"]), "a step with its type was expected"),
        (lambda c: c.update(pre_tokenizer=None), "neither a ByteLevel pre-tokenizer nor byte_fallback"),
        (lambda c: c.update(normalizer={"type": "Magic"}), "the tokenizers library refuses it"),
        (lambda c: c.update(normalizer={"type": "Precompiled"}), "table of letters to replace is damaged"),
        (
            lambda c: c.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "table of letters to replace is damaged",
        ),
    ],
)
def test_tokenizer_json(change: Callable[[dict[str, Any]], object], said: str) -> None:
    message = fault(changed(change))
    assert message.startswith("tokenizer.json")
    assert said in message


def test_merge_is_named_by_its_place() -> None:
    assert "model.merges[0]: " in fault(changed(lambda c: c["model"]["merges"].insert(0, ["☃", "a"])))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("tokenizer_config.json", {"added_tokens_decoder": {"x": {}}}, ": 'x' is not an id"),
        ("tokenizer_config.json", {"added_tokens_decoder": []}, None),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}, "added_tokens_decoder is not a JSON object"),
        ("tokenizer_config.json", {"added_tokens_decoder": {"1501": {}}}, "[1501]: a token was expected"),
        (
            "tokenizer_config.json",
            {"added_tokens_decoder": {"1590": {"content": "<|eot_id|>"}}},
            "'<|eot_id|>' has the id 1590, and 1502 elsewhere",
        ),
        ("tokenizer_config.json", {"extra_special_tokens": "x"}, "neither a list nor an object"),
        ("tokenizer_config.json", {"eos_token": 7}, "eos_token: a token was expected, not 7"),
        ("special_tokens_map.json", {"pad_token": ["x"]}, "pad_token: a token was expected, not ['x']"),
        ("added_tokens.json", {"<x>": "1590"}, "'<x>' has the id '1590'"),
        ("generation_config.json", {"eos_token_id": "</s>"}, "is not an id or a list of ids"),
    ],
)  # fmt: skip
def test_files_beside_it(name: str, content: dict[str, Any], said: str | None) -> None:
    folder = copy_of(llama3_folder())
    write_json(folder / name, content)
    if said is None:
        load(folder, "llama", {}, 1600)
        return
    message = fault(folder)
    assert message.startswith(name)
    assert said in message


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a", "merges.txt:50001: not two tokens with a space between"),
        ("a b c", "merges.txt:50001: not two tokens with a space between"),
        ("a ☃", "merges.txt:50001: '☃' is not in vocab.json"),
    ],
)
def test_merges_txt(line: str, said: str) -> None:
    folder = copy_of(gpt2_folder())
    text = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    text[50000:] = [line, ""]
    (folder / "merges.txt").write_text("\n".join(text), encoding="utf-8")
    assert fault(folder, "gpt2", 50257) == said


def test_vocabulary_beyond_the_embedding() -> None:
    assert fault(llama3_folder(), vocab_size=1503) == (
        "tokenizer.json: token 1503 is beyond the 1503 rows of the model's embedding"
    )
    assert fault(small_qwen_folder(), "qwen", 1002) == (
        "qwen.tiktoken: token 1002 is beyond the 1002 rows of the model's embedding"
    )


def test_two_rank_files() -> None:
    folder = copy_of(small_qwen_folder())
    (folder / "other.tiktoken").write_bytes(b"")
    assert fault(folder, "qwen") == "other.tiktoken and qwen.tiktoken: which of them is the vocabulary?"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(normalizer={"type": "NFKC"}), "spaces are treated in a way that we do not know"),
        (
            lambda c: c.update(normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "_"}),
            "Metaspace with '_' in place of '▁'",
        ),
        (
            lambda c: c.update(normalizer=None, pre_tokenizer={"type": "Metaspace", "replacement": "▁"}),
            "Metaspace splits at spaces, yet '▁▁' is a token",
        ),
    ],
)
def test_spaces(change: Callable[[dict[str, Any]], object], said: str) -> None:
    tokenizer = load(changed(change, spm_folder()), "llama", {}, 1900)
    with pytest.raises(Failure) as caught:
        vocabulary_fields(tokenizer)
    assert said in caught.value.message
    with pytest.raises(Failure) as caught:
        onnx_files(tokenizer)
    assert said in caught.value.message


def test_an_empty_folder_says_what_is_wanted() -> None:
    with pytest.raises(Failure) as caught:
        load(new_folder(), "llama", {}, 10)
    assert "tokenizer.json" in caught.value.hint


ODD: tuple[Any, ...] = (None, True, -1, 10**30, 1.5, "", "x", [], [None], {}, {"type": "x"}, {"content": 1})


def places(content: Any, depth: int = 6) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value but those in the long tables."""
    if depth and isinstance(content, dict | list) and len(content) < 50:
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from places(content[key], depth - 1)


@pytest.mark.parametrize("source", [llama3_folder, spm_folder])
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("tokenizer.json", marks=pytest.mark.slow),
        "tokenizer_config.json",
        "generation_config.json",
    ],
)
def test_any_value_may_be_odd(source: Callable[[], Path], name: str) -> None:
    """Each value in turn becomes each odd thing: a tokenizer or a Failure, never another exception."""
    folder = copy_of(source())
    if name == "generation_config.json":
        write_json(
            folder / name, {"eos_token_id": [1], "pad_token_id": 1, "chat_format": "raw", "bos_token_id": 1}
        )
    content = json.loads((folder / name).read_text())
    refused = 0
    for container, key in list(places(content)):
        kept = container[key]
        for odd in ODD:
            container[key] = odd
            write_json(folder / name, content)
            try:
                vocabulary_fields(load(folder, "llama", {}, 1900))
            except Failure as failure:
                refused += "\n" not in failure.message
        container[key] = kept
    assert refused

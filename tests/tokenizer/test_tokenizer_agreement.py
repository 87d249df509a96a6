"""Source, canonical tokenizer.json and llama.cpp: the same ids for the same text, on every string we have."""

from __future__ import annotations

import base64
import functools
import unicodedata
from collections.abc import Callable
from typing import TypeAlias

import pytest
import tiktoken
import tokenizers

from convert.tokenizer import Kind, Tokenizer, TokenType, load
from tests.tokenizer.strings import all_strings, not_nfc
from tests.tokenizer.vocabularies import (
    gemma_folder,
    gpt2_folder,
    llama3_folder,
    new_folder,
    qwen_folder,
    small_qwen_folder,
    spm_folder,
)
from tests.tokenizer.vocabulary_runtime import Runtime

Encode: TypeAlias = Callable[[list[str]], list[list[int]]]

STRINGS = [text for texts in all_strings().values() for text in texts]
QWEN_REGEX = (  # tokenization_qwen.py, PAT_STR
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


FOLDERS = {
    "gpt2": gpt2_folder,
    "qwen": qwen_folder,
    "small-qwen": small_qwen_folder,
    "llama": llama3_folder,
    "mistral": spm_folder,
    "gemma": gemma_folder,
}
SIZES = {"gpt2": 50257, "qwen": 151936, "small-qwen": 1300, "llama": 1600, "mistral": 1900, "gemma": 1900}


@functools.cache
def loaded(name: str) -> Tokenizer:
    """Each vocabulary as a checkpoint of its family brings it."""
    return load(FOLDERS[name](), name.removeprefix("small-"), {}, SIZES[name])


@functools.cache
def runtime(name: str) -> Runtime:
    """The same in llama.cpp."""
    return Runtime(loaded(name), new_folder() / "vocabulary.gguf")


@functools.cache
def source(name: str) -> dict[bool, Encode]:
    """The tokenizer that the family's own authors use, taking special tokens in the text as such, or not."""
    if name.endswith("qwen"):
        lines = (FOLDERS[name]() / "qwen.tiktoken").read_bytes().splitlines()
        ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines)}
        names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205)))
        special = {text: len(ranks) + place for place, text in enumerate(names)}
        encoding = tiktoken.Encoding(
            "qwen", pat_str=QWEN_REGEX, mergeable_ranks=ranks, special_tokens=special
        )
        return {
            True: lambda texts: [encoding.encode(text, allowed_special="all") for text in texts],
            False: lambda texts: [encoding.encode(text, disallowed_special=()) for text in texts],
        }
    if name == "gpt2":
        files = (str(gpt2_folder() / "vocab.json"), str(gpt2_folder() / "merges.txt"))
        made = tokenizers.ByteLevelBPETokenizer(*files)
        made.add_special_tokens(["<|endoftext|>"])
        return encoders(tokenizers.Tokenizer.from_str(made.to_str()))
    return encoders(tokenizers.Tokenizer.from_file(str(FOLDERS[name]() / "tokenizer.json")))


def encoders(tokenizer: tokenizers.Tokenizer) -> dict[bool, Encode]:
    """Both ways to read special tokens in a text, from one tokenizer."""

    def encode(texts: list[str], *, special: bool) -> list[list[int]]:
        tokenizer.encode_special_tokens = not special
        return [encoding.ids for encoding in tokenizer.encode_batch(texts, add_special_tokens=False)]

    return {special: functools.partial(encode, special=special) for special in (True, False)}


@functools.cache
def canonical(name: str) -> dict[bool, Encode]:
    """What Hugging Face's library makes of our own file."""
    return encoders(tokenizers.Tokenizer.from_str(loaded(name).json.decode()))


def differences(ours: list[list[int]], theirs: list[list[int]]) -> list[str]:
    """The texts that the two take apart differently."""
    return [text for text, one, other in zip(STRINGS, ours, theirs, strict=True) if one != other]


def test_strings_are_many_and_of_every_kind() -> None:
    assert len(set(STRINGS)) >= 2000
    assert min(len(set(texts)) for kind, texts in all_strings().items() if kind != "empty") >= 100


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", FOLDERS)
def test_canonical_file_agrees_with_source(name: str, special: bool) -> None:  # noqa: FBT001
    assert differences(canonical(name)[special](STRINGS), source(name)[special](STRINGS)) == []


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("name", FOLDERS)
def test_llama_cpp_agrees_with_source(name: str, special: bool) -> None:  # noqa: FBT001
    theirs = [runtime(name).encode(text, special=special) for text in STRINGS]
    found = differences(theirs, source(name)[special](STRINGS))
    if name == "qwen" and special:
        assert found, "no longer? then test_llama_cpp_takes_end_of_sequence_by_its_text has had its day"
        found = [text for text in found if "</s>" not in text]
    assert found == []


@pytest.mark.parametrize("name", FOLDERS)
def test_vocabularies_are_put_to_use(name: str) -> None:
    """A vocabulary that met every text with single bytes would agree with anything."""
    ids = {identity for text in source(name)[True](STRINGS) for identity in text}
    normal = [i for i in ids if len(loaded(name).tokens[i]) > 1 and loaded(name).types[i] is TokenType.NORMAL]
    assert len(normal) > 400


def test_llama_cpp_takes_end_of_sequence_by_its_text() -> None:
    """src/llama-vocab.cpp makes any token that reads "</s>" a control token that ends generation.

    In Qwen's vocabulary 128247 is three ordinary characters, which its own splitting never leaves whole.
    """
    assert loaded("qwen").tokens[128247] == "</s>"
    assert source("qwen")[True](["</s>"]) == [[522, 82, 29]]
    assert runtime("qwen").encode("</s>", special=True) == [128247]
    assert runtime("qwen").encode("</s>", special=False) == [522, 82, 29]


def test_llama_cpp_leaves_text_as_it_came() -> None:
    """It has no NFC, which Qwen's tokenizers begin with; on text in NFC it makes no difference."""
    for text, ids in zip(not_nfc(), canonical("qwen")[False](not_nfc()), strict=True):
        assert runtime("qwen").encode(text, special=False) != ids
        normal = unicodedata.normalize("NFC", text)
        assert runtime("qwen").encode(normal, special=False) == ids


@pytest.mark.parametrize("name", FOLDERS)
def test_llama_cpp_wraps_as_the_canonical_file_does(name: str) -> None:
    wrapping = tokenizers.Tokenizer.from_str(loaded(name).json.decode())
    for text in ("", "Hello, 世界"):
        assert runtime(name).encode(text, special=True, wrapped=True) == wrapping.encode(text).ids


@pytest.mark.parametrize("name", FOLDERS)
def test_llama_cpp_spells_the_text_back(name: str) -> None:
    for text in ("Hello, 世界 🚀", "  two\r\nlines\t", "naïve ½"):
        spelt = b"".join(map(runtime(name).piece, runtime(name).encode(text, special=False))).decode()
        begins = loaded(name).kind is not Kind.BYTE_BPE and loaded(name).spacing.has_prefix
        assert spelt == (" " if begins else "") + text

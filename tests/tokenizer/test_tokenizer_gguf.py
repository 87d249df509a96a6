"""The key-values of a vocabulary: their shape, and what llama.cpp cannot be given."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import gguf
import pytest
from gguf import GGUFValueType
from tokenizers import Tokenizer as Encoder

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_deviations, vocabulary_fields
from convert.tokenizer import TokenType, load
from tests.tokenizer.test_tokenizer_agreement import loaded
from tests.tokenizer.vocabularies import added, copy_of, spm_folder, write_json
from tests.tokenizer.vocabulary_runtime import Runtime, write_vocabulary

if TYPE_CHECKING:
    from pathlib import Path

BYTE_BPE_KEYS = [
    "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type",
    "tokenizer.ggml.merges", "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
    "tokenizer.ggml.unknown_token_id", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token",
]  # fmt: skip


def test_keys_of_a_byte_level_vocabulary(tmp_path: Path) -> None:
    assert [field[0] for field in vocabulary_fields(loaded("gpt2"))] == BYTE_BPE_KEYS
    reader = gguf.GGUFReader(write_vocabulary(loaded("small-qwen"), tmp_path / "v.gguf"))
    written = {key: field.contents() for key, field in reader.fields.items()}
    qwen = loaded("small-qwen")
    assert tuple(written["tokenizer.ggml.tokens"]) == qwen.tokens
    assert tuple(written["tokenizer.ggml.token_type"]) == qwen.types
    assert [tuple(merge.split(" ")) for merge in written["tokenizer.ggml.merges"]] == list(qwen.merges)
    assert written["tokenizer.ggml.eot_token_id"] == qwen.eot_id
    assert written["tokenizer.chat_template"] == qwen.chat_template


def test_keys_of_a_sentencepiece_vocabulary() -> None:
    fields = {
        key: (kind, value, element) for key, kind, value, element in vocabulary_fields(loaded("mistral"))
    }
    assert fields["tokenizer.ggml.model"][1] == "llama"
    assert fields["tokenizer.ggml.scores"][::2] == (GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    assert fields["tokenizer.ggml.add_space_prefix"] == (GGUFValueType.BOOL, True, None)
    assert "tokenizer.ggml.merges" not in fields


def test_no_end_of_text_is_refused() -> None:
    """Llama.cpp would take token 11 for it."""
    with pytest.raises(Failure, match="no end-of-text token"):
        vocabulary_fields(dataclasses.replace(loaded("gpt2"), eos_id=None))


def test_no_beginning_of_text_is_its_end() -> None:
    fields = {
        field[0]: field[2] for field in vocabulary_fields(dataclasses.replace(loaded("gpt2"), bos_id=None))
    }
    assert fields["tokenizer.ggml.bos_token_id"] == 50256


def test_joins_that_the_source_does_not_make() -> None:
    """llama.cpp joins any two tokens that make a third, so chosen merges cannot be told to it."""
    folder = copy_of(spm_folder())
    content = json.loads((folder / "tokenizer.json").read_text())
    dropped = content["model"]["merges"].pop()
    write_json(folder / "tokenizer.json", content)
    tokenizer = load(folder, "llama", {}, 1900)
    with pytest.raises(Failure) as caught:
        vocabulary_fields(tokenizer)
    assert caught.value.message == (
        f"tokenizer: llama.cpp would join {dropped[0]!r} and {dropped[1]!r}, which the source does not"
    )


def test_a_missing_byte_is_refused() -> None:
    folder = copy_of(spm_folder())
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["<no byte>"] = content["model"]["vocab"].pop("<0x41>")
    write_json(folder / "tokenizer.json", content)
    with pytest.raises(Failure, match="the byte token <0x41> is missing"):
        vocabulary_fields(load(folder, "llama", {}, 1900))


def test_user_defined_spaces_are_spaces_and_no_two_tokens_are_equal(tmp_path: Path) -> None:
    """llama.cpp looks for them in the text as it came, and aborts on a token that it has twice."""
    folder = copy_of(spm_folder())
    content = json.loads((folder / "tokenizer.json").read_text())
    first = len(content["model"]["vocab"])
    texts = ("▁▁▁▁▁▁", "<a▁b>", "<a b>", f"[PAD{first + 5}]")
    content["added_tokens"] += [added(first + place, text, special=False) for place, text in enumerate(texts)]
    write_json(folder / "tokenizer.json", content)
    tokenizer = load(folder, "gemma", {}, first + 7)
    written = next(value for key, _, value, _ in vocabulary_fields(tokenizer) if key.endswith(".tokens"))
    assert written[first:] == [
        "      ", "<a▁b>", "<a b>", f"[PAD{first + 5}]",
        f"[PAD{first + 4}]", f"[[PAD{first + 5}]]", f"[PAD{first + 6}]",
    ]  # fmt: skip
    assert tokenizer.types[first + 3 :] == (TokenType.USER_DEFINED, *[TokenType.UNUSED] * 3)
    assert first in Runtime(tokenizer, tmp_path / "v.gguf").encode("a      b", special=False)


def test_deviations_are_said() -> None:
    assert vocabulary_deviations(loaded("gpt2")) == []
    assert vocabulary_deviations(loaded("mistral")) == []
    assert vocabulary_deviations(loaded("qwen")) == [
        "tokenizer: llama.cpp does not bring text to NFC before it splits it"
    ]
    stripping = dataclasses.replace(loaded("llama").added[0], rstrip=True)
    ends = dataclasses.replace(loaded("llama"), added=(stripping,), eog_ids=(1, 2, 3, 1501))
    of_flags, of_ends = vocabulary_deviations(ends)
    assert of_flags.startswith("tokenizer: 1 added tokens take in the spaces around them")
    assert of_ends.endswith(f"also end generation: {ends.tokens[2]}, {ends.tokens[3]}")


def test_phi_3_takes_in_spaces_by_its_name(tmp_path: Path) -> None:
    """GGUF cannot say that a token strips what follows: llama.cpp does it where general.name says "phi-3"."""
    folder = copy_of(spm_folder())
    content = json.loads((folder / "tokenizer.json").read_text())
    first = len(content["model"]["vocab"])
    texts = ("<|endoftext|>", "<|user|>", "<|end|>")
    entries = [added(first + place, text, special=True) for place, text in enumerate(texts)]
    content["added_tokens"] += [entries[0], *(entry | {"rstrip": True} for entry in entries[1:])]
    content["added_tokens"][2] |= {"rstrip": True, "special": False}  # </s>, as in the original
    write_json(folder / "tokenizer.json", content)
    tokenizer = load(folder, "phi3", {}, first + 3)
    ids = Encoder.from_str(tokenizer.json.decode()).encode("<|user|>\n a</s> b<|end|>\n").ids
    text = "<|user|>\n a</s> b<|end|>\n"
    assert Runtime(tokenizer, tmp_path / "v.gguf", "Phi-3 mini").encode(text, special=True) == ids
    assert Runtime(tokenizer, tmp_path / "v.gguf", "Phi 3 mini").encode(text, special=True) != ids
    assert "of one name only" in vocabulary_deviations(tokenizer)[0]

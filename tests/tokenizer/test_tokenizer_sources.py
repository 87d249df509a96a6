"""Every kind of source comes to the same canonical form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

from convert.errors import Failure
from convert.formats.gguf.vocabulary import vocabulary_deviations
from convert.tokenizer import Kind, TokenType, load
from tests.tokenizer.test_tokenizer_agreement import STRINGS, canonical, differences, encoders, loaded
from tests.tokenizer.vocabularies import (
    FIXTURES,
    copy_of,
    gemma_folder,
    gpt2_folder,
    llama3_folder,
    new_folder,
    qwen_folder,
    spm_content,
    spm_folder,
    write_json,
)
from tests.tokenizer.vocabulary_runtime import Runtime

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", ["llama", "gemma"])
@pytest.mark.parametrize("is_pairs", [True, False])
def test_merges_may_be_strings_or_pairs(name: str, is_pairs: bool) -> None:  # noqa: FBT001
    folder = copy_of({"llama": llama3_folder, "gemma": gemma_folder}[name]())
    content = json.loads((folder / "tokenizer.json").read_text())
    merges = [merge.split(" ") if isinstance(merge, str) else merge for merge in content["model"]["merges"]]
    content["model"]["merges"] = merges if is_pairs else [" ".join(merge) for merge in merges]
    write_json(folder / "tokenizer.json", content)
    tokenizer = load(folder, name, {}, len(loaded(name).tokens))
    assert tokenizer == loaded(name)


def test_canonical_file_comes_to_itself(tmp_path: Path) -> None:
    """What we write, we read as the same; also where it came from ranks, and from vocab.json."""
    families = {
        "small-qwen": "qwen2",
        "gpt2": "gpt2",
        "mistral": "mistral",
        "gemma": "gemma",
        "llama": "llama",
    }
    for name, model_type in families.items():
        before = loaded(name)
        folder = tmp_path / name
        folder.mkdir()
        (folder / "tokenizer.json").write_bytes(before.json)
        write_json(folder / "tokenizer_config.json", before.config)
        write_json(folder / "generation_config.json", {"eos_token_id": list(before.eog_ids)})
        after = load(folder, model_type, {}, len(before.tokens))
        assert after.json == before.json
        assert after == before


def test_qwen2_without_tokenizer_json() -> None:
    """vocab.json, merges.txt and the tokens of tokenizer_config.json say what qwen.tiktoken says."""
    qwen = loaded("small-qwen")
    vocab = json.loads(qwen.json)["model"]["vocab"]
    folder = new_folder()
    write_json(folder / "vocab.json", vocab)
    lines = ["#version: 0.2", *(f"{left} {right}" for left, right in qwen.merges), ""]
    (folder / "merges.txt").write_bytes("\r\n".join(lines).encode())
    decoder = {str(token.id): {"content": token.content, "special": True} for token in qwen.added}
    settings = {"added_tokens_decoder": decoder, "eos_token": "<|im_end|>", "bos_token": None}
    write_json(folder / "tokenizer_config.json", {**settings, "tokenizer_class": "Qwen2Tokenizer"})
    tokenizer = load(folder, "qwen2", {"bos_token_id": 1000}, 1300)
    assert tokenizer.json == qwen.json
    assert (tokenizer.tokens, tokenizer.types) == (qwen.tokens, qwen.types)
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.config["bos_token"]) == (1000, 1002, None)


def test_gpt2_with_the_files_of_the_first_releases() -> None:
    """added_tokens.json and special_tokens_map.json add to the vocabulary what it does not hold."""
    folder = copy_of(gpt2_folder())
    write_json(folder / "added_tokens.json", {"<|user|>": 50257, "<note>": 50258})
    write_json(
        folder / "special_tokens_map.json",
        {
            "eos_token": {"content": "<|endoftext|>", "lstrip": False},
            "additional_special_tokens": ["<|user|>"],
        },
    )
    tokenizer = load(folder, "gpt2", {"eos_token_id": 50256}, 50260)
    assert tokenizer.tokens[50256:] == ("<|endoftext|>", "<|user|>", "<note>", "[PAD50259]")
    assert tokenizer.types[50256:] == (
        TokenType.CONTROL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED,
    )  # fmt: skip
    assert tokenizer.config["additional_special_tokens"] == ["<|user|>"]
    encoding = Tokenizer.from_str(tokenizer.json.decode()).encode(
        "a<|user|><note>b", add_special_tokens=False
    )
    assert encoding.ids == [64, 50257, 50258, 65]
    runtime = Runtime(tokenizer, folder / "v.gguf")
    assert runtime.encode("a<|user|><note>b", special=True) == [64, 50257, 50258, 65]


def test_scores_of_a_sentencepiece_model() -> None:
    """tokenizer.model and ids.json were made by sentencepiece itself, 0.2, of this suite's own strings."""
    folder = new_folder()
    (folder / "tokenizer.model").write_bytes((FIXTURES / "sentencepiece" / "tokenizer.model").read_bytes())
    expected = json.loads((FIXTURES / "sentencepiece" / "ids.json").read_text(encoding="utf-8"))
    write_json(folder / "tokenizer.json", _as_tokenizers(folder / "tokenizer.model"))
    with_model = load(folder, "llama", {}, 800)
    (folder / "tokenizer.model").unlink()
    without = load(folder, "llama", {}, 800)
    assert with_model.scores is not None
    assert with_model.scores[259:262] == (0.0, -1.0, -2.0)
    for tokenizer in (with_model, without):
        runtime = Runtime(tokenizer, folder / "v.gguf")
        assert {text: runtime.encode(text, special=False) for text in expected} == expected
    ours = encoders(Tokenizer.from_str(without.json.decode()))[False](list(expected))
    assert ours == list(expected.values())


def test_tokenizer_model_of_another_vocabulary() -> None:
    folder = copy_of(spm_folder())
    (folder / "tokenizer.model").write_bytes((FIXTURES / "sentencepiece" / "tokenizer.model").read_bytes())
    with pytest.raises(Failure, match=r"token 259 is '.+' in tokenizer\.model, and '.+' in tokenizer\.json"):
        load(folder, "llama", {}, 1600)


@pytest.mark.parametrize("cut", [1, 40, 5000])
def test_truncated_tokenizer_model(cut: int) -> None:
    folder = copy_of(spm_folder())
    whole = (FIXTURES / "sentencepiece" / "tokenizer.model").read_bytes()
    (folder / "tokenizer.model").write_bytes(whole[:cut])
    with pytest.raises(Failure, match=r"tokenizer\.model"):
        load(folder, "llama", {}, 1600)


def test_a_unigram_model_and_a_bpe_vocabulary() -> None:
    folder = copy_of(spm_folder())
    (folder / "tokenizer.model").write_bytes(b"\x0a\x05\x0a\x03abc" + b"\x12\x02\x18\x01" + b"\x1a\x00")
    with pytest.raises(Failure, match="sentencepiece model of type unigram, and a BPE vocabulary"):
        load(folder, "llama", {}, 1600)


def test_metaspace_is_the_same_as_replacing_spaces() -> None:
    """Transformers 5 writes Llama's steps as a pre-tokenizer, earlier releases as normalizers."""
    folder = copy_of(spm_folder())
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = None
    content["pre_tokenizer"] = {
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False,
    }  # fmt: skip
    write_json(folder / "tokenizer.json", content)
    tokenizer = load(folder, "mistral", {}, 1900)
    assert (tokenizer.tokens, tokenizer.scores) == (loaded("mistral").tokens, loaded("mistral").scores)
    assert tokenizer.spacing.has_prefix
    ours = encoders(Tokenizer.from_str(tokenizer.json.decode()))[False](STRINGS)
    found = differences(ours, canonical("mistral")[False](STRINGS))
    # Such a pre-tokenizer adds no second space to a text that begins with one; llama.cpp does, as
    # sentencepiece itself, and the manifest says so.
    assert [text for text in found if not text.startswith(" ")] == []
    assert Runtime(tokenizer, folder / "v.gguf").encode("  ", special=False) != ours[STRINGS.index("  ")]
    assert any("begins with a space" in line for line in vocabulary_deviations(tokenizer))


def test_kinds() -> None:
    assert loaded("small-qwen").kind is Kind.BYTE_BPE
    assert loaded("gemma").kind is Kind.SPM_BPE
    assert not loaded("gemma").spacing.has_prefix
    assert loaded("gemma").types[4] is TokenType.BYTE


def test_no_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="the checkpoint has no tokenizer"):
        load(tmp_path, "llama", {}, 10)


def test_ranks_that_are_read_by_code_alone(tmp_path: Path) -> None:
    (tmp_path / "tiktoken.model").write_bytes((qwen_folder() / "qwen.tiktoken").read_bytes()[:200])
    with pytest.raises(Failure, match=r"tiktoken\.model: .* in the repo's code, which is never run"):
        load(tmp_path, "kimi_k2", {}, 10)


def test_ranks_of_an_unknown_family(tmp_path: Path) -> None:
    (tmp_path / "x.tiktoken").write_bytes((qwen_folder() / "qwen.tiktoken").read_bytes()[:200])
    with pytest.raises(Failure, match=r"x\.tiktoken: how 'llama' splits text is not written in it"):
        load(tmp_path, "llama", {}, 10)


def test_vocab_json_of_an_unknown_family() -> None:
    with pytest.raises(Failure, match="how 'llama' splits text"):
        load(gpt2_folder(), "llama", {}, 50257)


def _as_tokenizers(model: Path) -> dict[str, Any]:
    """tokenizer.json as Transformers converts it, every cut of a piece a merge, best score first."""
    from convert.tokenizer.score import read_scores  # noqa: PLC0415  (shared by this one test)

    pieces = read_scores(model)
    scores = dict(pieces)
    content = spm_content(["<unk>", "<s>", "</s>"], with_prefix=True)
    cuts = [
        (-score, piece[:cut], piece[cut:])
        for piece, score in pieces[259:]
        for cut in range(1, len(piece))
        if piece[:cut] in scores and piece[cut:] in scores
    ]
    content["model"]["vocab"] = {piece: identity for identity, (piece, _) in enumerate(pieces)}
    content["model"]["merges"] = [[left, right] for _, left, right in sorted(cuts, key=lambda cut: cut[0])]
    return content

"""Transformers opens what we write, whatever class it prefers for the model, and reads as the source does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from convert.tokenizer import load
from tests.tokenizer.test_tokenizer_agreement import STRINGS, loaded, source
from tests.tokenizer.test_tokenizer_special import around
from tests.tokenizer.vocabularies import write_json

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "model_type"),
    [
        ("gpt2", "gpt2"),
        ("qwen", "qwen2"),
        ("small-qwen", "qwen3"),
        ("llama", "llama"),
        ("mistral", "mistral"),
        ("mistral", "phi3"),
        ("gemma", "gemma"),
    ],
)
def test_transformers_agrees(name: str, model_type: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415  (seconds to import)

    ours = loaded(name)
    (tmp_path / "tokenizer.json").write_bytes(ours.json)
    write_json(tmp_path / "tokenizer_config.json", ours.config)
    write_json(tmp_path / "config.json", {"model_type": model_type, "vocab_size": 200_000})
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    texts = STRINGS[::4]
    ids = source(name)[True](texts)
    assert [theirs(text, add_special_tokens=False)["input_ids"] for text in texts] == ids
    first = ours.bos_id if ours.add_bos else source(name)[True](["Hello"])[0][0]
    assert theirs("Hello")["input_ids"][0] == first
    for role in ("bos", "eos", "pad"):
        identity = getattr(ours, f"{role}_id")
        assert getattr(theirs, f"{role}_token_id") == identity
    assert (theirs.chat_template is None) == (ours.chat_template is None)


@pytest.mark.slow
def test_transformers_keeps_what_opens_a_text(tmp_path: Path) -> None:
    """With add_bos_token it would put bos alone before a text."""
    from transformers import AutoTokenizer  # noqa: PLC0415

    ours = load(around("<|begin_of_text|>", "<|start_header_id|>"), "llama", {}, 1600)
    (tmp_path / "tokenizer.json").write_bytes(ours.json)
    write_json(tmp_path / "tokenizer_config.json", ours.config)
    write_json(tmp_path / "config.json", {"model_type": "llama", "vocab_size": 1600})
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs("Hello")["input_ids"][:2] == [1500, 1503]

"""Transformers opens what we write, whatever class it prefers for the model, and reads as the source does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.tokenizer.test_tokenizer_agreement import STRINGS, loaded, source
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

"""The small files beside weights: what the libraries read in them is what the source says."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from transformers.utils.logging import warning_once

from convert.formats.hf.companions import canonical_config, companion_files, generation_config
from tests import tiny
from tests.hf.describing import described, make

if TYPE_CHECKING:
    from pathlib import Path


# Transformers warns of keys that its own models read, and of how far a tiny model's positions are stretched.
ABOUT_POSITIONS = ("Unrecognized keys in `rope_parameters`", "The explicitly set RoPE scaling factor")


def write(folder: Path, source: Path) -> Path:
    model = described(source)
    folder.mkdir()
    for name, content in companion_files(model, canonical_config(model, "bfloat16")).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CONFIGS))
def test_every_family_s_config_is_read_without_its_code(
    model_type: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}, "_name_or_path": "/home/someone/model"}
    out = write(tmp_path / "out", make(tmp_path / "source", tiny.Recipe(model_type, code)))
    warning_once.cache_clear()  # an earlier test may have had the same warning
    with caplog.at_level(logging.WARNING):
        config = AutoConfig.from_pretrained(out)
    said = [record.getMessage() for record in caplog.records]
    assert not [text for text in said if not text.startswith(ABOUT_POSITIONS)]
    assert str(config.dtype) == "torch.bfloat16"
    assert config.model_type == tiny.described(model_type).family
    text = (out / "config.json").read_text("utf-8")
    assert "auto_map" not in text
    assert "someone" not in text


def test_qwen_1_speaks_in_qwen2_s_words(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("qwen", {"rotary_emb_base": 12345}))
    config = AutoConfig.from_pretrained(write(tmp_path / "out", source))
    assert config.architectures == ["Qwen2ForCausalLM"]
    assert config.rope_parameters == {"rope_theta": 12345.0, "rope_type": "default"}
    assert (config.intermediate_size, config.num_key_value_heads) == (352, 4)
    assert config.max_position_embeddings == 256  # its seq_length: what lies beyond is not carried
    assert config.sliding_window is None
    assert (config.tie_word_embeddings, config.rms_norm_eps) == (False, 1e-6)


def test_qwen_1_s_turns_end(tmp_path: Path) -> None:
    out = write(tmp_path / "out", make(tmp_path / "source", tiny.Recipe("qwen")))
    tokenizer = AutoTokenizer.from_pretrained(out)
    generation = GenerationConfig.from_pretrained(out)
    ends = {tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")}
    assert set(generation.eos_token_id) == ends
    assert generation.top_p == 0.8
    assert not hasattr(generation, "chat_format")
    chat = tokenizer.apply_chat_template([{"role": "user", "content": "你好"}], tokenize=False)
    assert chat.endswith("<|im_start|>user\n你好<|im_end|>\n")
    assert tokenizer.decode(tokenizer.encode(chat)) == chat


def test_the_template_is_the_same_in_both_places(tmp_path: Path) -> None:
    out = write(tmp_path / "out", make(tmp_path / "source", tiny.Recipe("llama")))
    settings = json.loads((out / "tokenizer_config.json").read_text("utf-8"))
    assert settings["chat_template"] == (out / "chat_template.jinja").read_text("utf-8")
    assert json.loads((out / "special_tokens_map.json").read_text("utf-8"))["eos_token"] == "</s>"


def test_what_the_source_says_of_generation_stays(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    said = {"temperature": 0.5, "eos_token_id": [2, 9], "_from_model_config": True, "max_new_tokens": 7}
    (source / "generation_config.json").write_text(json.dumps(said))
    assert generation_config(described(source)) == {
        "temperature": 0.5,
        "eos_token_id": [2, 9],
        "max_new_tokens": 7,
        "bos_token_id": 1,
    }

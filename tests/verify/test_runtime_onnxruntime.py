"""ONNX in plain onnxruntime: both layouts give the source's logits and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest

from convert import convert_recipe, recipe
from convert.formats import option_models
from tests import tiny
from tests.hf import describing
from tests.onnx.source_answers import SPREAD, TOKENS, answers
from tests.verify.opening import CHAT, LAID_OUT, TEXT, logits, opened
from verify.runtimes import Request, runtimes_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verify.conftest import Made


# As onnx-community publishes Llama-3.2-1B-Instruct-ONNX and Qwen2.5-1.5B-Instruct, of files that are fetched.
PUBLISHED = {
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("onnx/model_q4.onnx", "onnx/model_q4.onnx_data"),
}
# What transformers.js reads of `transformers.js_config` for a decoder (src/models/session.js).
KEYS = {
    *("device", "device_config", "dtype", "free_dimension_overrides", "kv_cache_dtype"),
    "use_external_data_format",
}


def made(chat: Made, home: Path, layout: str, precision: str = "fp32") -> Path:
    path = home / "tiny.yaml"
    options = f"{{precision: {precision}, layout: {layout}}}"
    path.write_text(f"model: {chat.source}\ntargets: {{onnx: {options}}}\n", "utf-8")
    convert_recipe(recipe.load(path, option_models()), out=home / "out", threads=1, offline=True)
    return home / "out" / "tiny" / f"onnx-{precision}-cpu"


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["genai", "transformers.js"])
def test_it_agrees_with_the_source(layout: str, chat: Made, tmp_path: Path) -> None:
    folder = made(chat, tmp_path, layout)
    known = runtimes_for(folder, "onnx")
    assert known[0] == ("onnxruntime_genai" if layout == "genai" else known[0])
    assert "onnxruntime" in known
    assert ("onnxruntime_genai" in known) is (layout == "genai")
    with opened("onnxruntime", folder) as ours, opened("transformers", chat.source) as source:
        assert (ours.info.context, ours.info.vocab_size, ours.info.eos_id) == (256, tiny.VOCAB_SIZE, 511)
        # 4 layers x keys and values x 2 heads x 32 values of 4 bytes
        assert ours.info.kv_bytes_per_token == 2048
        assert ours.apply_template(CHAT) == LAID_OUT
        ids = ours.tokenize(TEXT)
        assert ids == source.tokenize(TEXT)
        assert np.abs(logits(ours, ids) - logits(source, ids)).max() < 1e-4
        assert ours.cache_bytes() == len(ids) * 2048
        request = Request(messages=CHAT, max_tokens=12)
        found = [[piece.token for piece in worker.generate(request)] for worker in (ours, source)]
        assert found[0] == found[1]


def test_the_layout_of_transformers_js(chat: Made, tmp_path: Path) -> None:
    """It is that of published models: files, the settings that are read, names of inputs and outputs."""
    folder = made(chat, tmp_path, "transformers.js", "int4")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= PUBLISHED
    assert {name for name in names if "/" in name or "genai" in name} <= PUBLISHED
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["model_type"] == "qwen2"
    assert config["transformers.js_config"].keys() <= KEYS
    assert config["transformers.js_config"] == {
        "dtype": "q4",
        "kv_cache_dtype": {"q4": "float32"},
        "use_external_data_format": {"model_q4.onnx": 1},
    }
    # The library reads the template there alone.
    assert "im_start" in json.loads((folder / "tokenizer_config.json").read_text("utf-8"))["chat_template"]
    graph = onnx.load(folder / "onnx/model_q4.onnx", load_external_data=False).graph
    places = {
        entry.value for each in graph.initializer for entry in each.external_data if entry.key == "location"
    }
    assert places == {"model_q4.onnx_data"}
    layers = range(config["num_hidden_layers"])
    states = [f"{layer}.{kind}" for layer in layers for kind in ("key", "value")]
    given = [each.name for each in graph.input]
    assert given == ["input_ids", "attention_mask", *(f"past_key_values.{each}" for each in states)]
    assert [each.name for each in graph.output] == ["logits", *(f"present.{each}" for each in states)]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "qwen3_moe", "lfm2", "deepseek_v3"])
def test_states_of_all_kinds_are_handed_on(name: str, tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe(name, dtype="F32", spread=SPREAD))
    folder = describing.convert_to(tmp_path, source, "onnx: {precision: fp32}") / "onnx-fp32-cpu"
    with opened("onnxruntime", folder) as worker:
        found = logits(worker, TOKENS)
    assert np.abs(found - answers(source)).max() < 1e-4

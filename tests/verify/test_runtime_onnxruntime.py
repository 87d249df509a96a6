"""ONNX in plain onnxruntime: both layouts give the source's logits and answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
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


def made(chat: Made, home: Path, layout: str) -> Path:
    path = home / "tiny.yaml"
    path.write_text(
        f"model: {chat.source}\ntargets: {{onnx: {{precision: fp32, layout: {layout}}}}}\n", "utf-8"
    )
    convert_recipe(recipe.load(path, option_models()), out=home / "out", threads=1, offline=True)
    return home / "out" / "tiny" / "onnx-fp32-cpu"


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
    folder = made(chat, tmp_path, "transformers.js")
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names >= {"config.json", "tokenizer.json", "onnx/model.onnx", "onnx/model.onnx_data"}
    assert "genai_config.json" not in names
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["model_type"] == "qwen2"
    assert config["transformers.js_config"] == {
        "dtype": "fp32",
        "kv_cache_dtype": {"fp32": "float32"},
        "use_external_data_format": {"model.onnx": 1},
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpt2", "qwen3_moe", "lfm2", "deepseek_v3"])
def test_states_of_all_kinds_are_handed_on(name: str, tmp_path: Path) -> None:
    source = describing.make(tmp_path / "source", tiny.Recipe(name, dtype="F32", spread=SPREAD))
    folder = describing.convert_to(tmp_path, source, "onnx: {precision: fp32}") / "onnx-fp32-cpu"
    with opened("onnxruntime", folder) as worker:
        found = logits(worker, TOKENS)
    assert np.abs(found - answers(source)).max() < 1e-4

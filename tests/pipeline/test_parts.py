"""A multimodal checkpoint's text decoder is converted; what is left out is named in plan and manifest."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from convert import plan_recipe
from convert.formats import option_models
from convert.recipe import load
from convert.store import read_manifest
from tests import tiny
from tests.gguf import oracle
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

RECIPE = tiny.Recipe("qwen3_5_text", dtype="F32", spread=0.03)
VISION = {"depth": 1, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2, "out_hidden_size": 256}
BESIDES = ("model.visual.pos_embed.weight", "model.visual.patch_embed.proj.bias", "mtp.fc.weight")
LEFT_OUT = {
    "model.visual": "left out, as it belongs to the vision tower",
    "mtp": "left out, as it belongs to the heads for multi-token prediction",
}


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("text"), RECIPE)


@pytest.fixture(scope="module")
def multimodal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same text decoder inside a model that reads pictures, with an index."""
    folder = make(tmp_path_factory.mktemp("multimodal"), RECIPE)
    inner = json.loads((folder / "config.json").read_text("utf-8"))
    outer = {
        "architectures": ["Qwen3_5ForConditionalGeneration"],
        "model_type": "qwen3_5",
        "text_config": {key: value for key, value in inner.items() if key != "architectures"},
        "tie_word_embeddings": inner["tie_word_embeddings"],
        "vision_config": VISION,
    }
    (folder / "config.json").write_text(json.dumps(outer), "utf-8")
    made = {
        name.replace("model.", "model.language_model.", 1): values
        for name, values in tiny.tensors(RECIPE).items()
    }
    made |= dict.fromkeys(BESIDES, np.ones(4, np.float32))
    tiny.write_safetensors(folder / "model-00001-of-00001.safetensors", made, "F32")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(made, "model-00001-of-00001.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder


def logits(folder: Path) -> NDArray[np.float32]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        return np.asarray(model(torch.arange(3, 40)[None]).logits[0].numpy(), np.float32)


def test_its_text_decoder_is_written_and_the_rest_is_named(
    text: Path, multimodal: Path, tmp_path: Path
) -> None:
    found = []
    for source in (text, multimodal):
        place = tmp_path / source.name
        place.mkdir()
        out = convert_to(place, source, "gguf: {quants: [F32]}") / "gguf-F32"
        found.append((oracle.tensors(*out.glob("*.gguf")), read_manifest(out).deviations))
    assert found[0][0] == found[1][0]
    assert found[0][1] == ()
    assert {each.subject: each.why for each in found[1][1]} == LEFT_OUT


def test_the_plan_names_what_is_left_out(multimodal: Path, tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {multimodal}\ntargets: {{hf: {{}}, gguf: {{quants: [Q8_0]}}}}\n", "utf-8")
    for target in plan_recipe(load(path, option_models()), out=tmp_path / "artifacts", offline=True).targets:
        assert {each.subject: each.why for each in target.deviations} == LEFT_OUT


def test_the_checkpoint_is_of_the_text_decoder_s_own_class(
    text: Path, multimodal: Path, tmp_path: Path
) -> None:
    out = convert_to(tmp_path, multimodal, "hf: {}") / "hf"
    config = json.loads((out / "config.json").read_text("utf-8"))
    assert (config["architectures"], config["model_type"]) == (["Qwen3_5ForCausalLM"], "qwen3_5_text")
    assert np.array_equal(logits(out), logits(text))
    assert np.array_equal(logits(multimodal), logits(text))

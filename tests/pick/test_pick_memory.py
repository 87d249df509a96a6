"""Weights are those of the files that are built, and caches those that the decoder's layers need."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.model.config import Config
from convert.model.decoder import Delta, Latent, StateSpace
from convert.model.families import describe
from convert.pick import data, memory
from convert.pick.candidate import gather, parse
from convert.pick.known import find_model
from convert.pick.profile import GpuFile, Profile
from convert.pick.runtime import Runtime, find_runtime
from tests import tiny

HOLDS = find_runtime("llama.cpp").holds


def decoder_of(name: str, **changes: Any) -> Any:
    return describe(Config({**tiny.CONFIGS[name], **changes}))[1]


@pytest.mark.parametrize("repo", data.read_json("models.json"))
def test_known_models_have_as_many_weights_as_is_published(repo: str) -> None:
    facts = data.read_json("models.json")[repo]
    assert find_model(repo, Path("nowhere")).parameter_count == facts["parameters"]
    assert facts["source"]
    assert facts["as_of"]


def test_every_hub_model_of_a_recipe_is_known() -> None:
    recipes = Path(__file__).parents[2] / "recipes"
    models = {
        line.split()[1]
        for file in recipes.glob("*.yaml")
        for line in file.read_text().splitlines()
        if line.startswith("model: ")
    }
    assert {model for model in models if not model.startswith("models/")} <= set(
        data.read_json("models.json")
    )


@pytest.mark.parametrize(
    ("kind", "model"), [("profiles", Profile), ("runtimes", Runtime), ("gpus", GpuFile)], ids=str
)
def test_every_data_file_is_read(kind: str, model: type[Any]) -> None:
    files = data.named(kind)
    assert len(files) > 3
    for path in files.values():
        data.read(path, kind, model)


def test_layers_that_share_see_windows_or_keep_a_state_take_less() -> None:
    plain = decoder_of("llama")
    attention = plain.layers[0].attention
    whole = memory.cache_bytes(plain, 4096, HOLDS)
    assert whole == len(plain.layers) * 2 * 4096 * attention.kv_size * 2
    windowed = plain.with_mixers(window=100)
    assert memory.cache_bytes(windowed, 4096, HOLDS) == whole * (100 + HOLDS.batch_tokens) / 4096
    ignoring = HOLDS.model_copy(update={"windows": "ignored"})
    assert memory.cache_bytes(windowed, 4096, ignoring) == whole
    assert memory.cache_bytes(plain.with_mixers(kv_layer=0), 4096, HOLDS) == 0


def test_latent_attention_keeps_its_narrow_row_where_the_runtime_does() -> None:
    found = decoder_of("deepseek_v2")
    mixers = [layer.mixer for layer in found.layers if isinstance(layer.mixer, Latent)]
    narrow = sum(each.kv_rank + each.rope.dimensions for each in mixers)
    wide = sum(each.head_count * (each.head_size + each.value_size) for each in mixers)
    assert memory.cache_bytes(found, 100, HOLDS) == 100 * narrow * 2
    assert memory.cache_bytes(found, 100, HOLDS.model_copy(update={"latent": "wide"})) == 100 * wide * 2


@pytest.mark.parametrize("name", ["mamba2", "qwen3_next"])
def test_states_do_not_grow_with_the_text(name: str) -> None:
    found = decoder_of(name)
    states = replace(
        found, layers=tuple(each for each in found.layers if isinstance(each.mixer, Delta | StateSpace))
    )
    assert states.layers
    assert memory.cache_bytes(states, 10, HOLDS) == memory.cache_bytes(states, 10_000, HOLDS) > 0


@pytest.mark.parametrize("target", ["gguf:Q4_K_M", "gguf:Q8_0", "onnx:int4", "hf", "gptq"])
def test_weights_are_weighed_as_they_are_laid_out(target: str) -> None:
    """Of a model in F32; the bytes of what is built are compared in the slow tests."""
    name, options = parse(target)
    found = decoder_of("llama")
    candidate = replace(gather(["qwen2.5-0.5b"], Path("nowhere"))[0], target=name, options=options)
    candidate = replace(candidate, model=replace(candidate.model, decoder=found, native="F32"))
    assert candidate.weighed is not None
    bits = 8 * candidate.weighed.size_bytes / found.parameter_count
    assert bits > {"hf": 31.9}.get(target, 4)
    assert bits < {"hf": 32.1, "gguf:Q8_0": 10, "onnx:int4": 60}.get(target, 34)


@pytest.mark.slow
def test_of_experts_a_step_reads_those_that_are_chosen() -> None:
    moe = next(each for each in gather(["qwen3-30b-a3b"], Path("nowhere")) if each.target == "gguf-Q4_K_M")
    weighed = moe.weighed
    assert weighed is not None
    assert weighed.expert_share == 8 / 128
    assert weighed.read_bytes(1) == pytest.approx(weighed.common_bytes + weighed.expert_bytes / 16)
    assert weighed.read_bytes(1) < weighed.size_bytes / 8
    assert weighed.read_bytes(1000) == pytest.approx(weighed.common_bytes + weighed.expert_bytes)
    assert math.isclose(moe.model.active_count, 3.0e9, rel_tol=0.15)

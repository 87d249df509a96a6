"""An adapter that cannot be merged: one line, a hint, and nothing left behind."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert import Failure, convert_recipe, load_recipe, plan_recipe
from convert.errors import UsageFailure
from tests import tiny
from tests.hf import describing
from tests.hub.server import HubServer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZES = {"num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 96, "vocab_size": 288}
CONFIG = {
    "peft_type": "LORA",
    "base_model_name_or_path": "Owner/Base-1B",
    "r": 2,
    "lora_alpha": 4,
    "target_modules": ["down_proj"],
}
MODULE = "base_model.model.model.layers.0.mlp.down_proj"


def write_adapter(folder: Path, config: dict[str, Any], tensors: dict[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")


def pair(module: str = MODULE, ins: int = 96, outs: int = 64, rank: int = 2) -> dict[str, Any]:
    return {
        f"{module}.lora_A.weight": torch.ones(rank, ins),
        f"{module}.lora_B.weight": torch.ones(outs, rank),
    }


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return describing.make(tmp_path_factory.mktemp("sound") / "model", tiny.Recipe("llama", SIZES))


@pytest.fixture
def place(sound: Path, tmp_path: Path) -> Path:
    """A folder with a model, an adapter for it, and a recipe."""
    shutil.copytree(sound, tmp_path / "model")
    write_adapter(tmp_path / "adapter", CONFIG, pair())
    (tmp_path / "recipe.yaml").write_text(
        "model: ./model\nadapter: ./adapter\ntargets: {gguf: {quants: [Q8_0]}}\n"
    )
    return tmp_path


def convert(place: Path, said: list[str] | None = None) -> None:
    said = [] if said is None else said
    recipe = load_recipe(place / "recipe.yaml")
    convert_recipe(recipe, out=place / "artifacts", threads=1, offline=True, remark=said.append)


def set_config(**changes: Any) -> Callable[[Path], None]:
    def spoil(adapter: Path) -> None:
        (adapter / "adapter_config.json").write_text(json.dumps({**CONFIG, **changes}))

    return spoil


def set_tensors(tensors: dict[str, Any]) -> Callable[[Path], None]:
    return lambda adapter: save_file(tensors, adapter / "adapter_model.safetensors")


def cut(adapter: Path) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])


def turn_into_nan(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    tensors[f"{MODULE}.lora_B.weight"][3, 1] = float("nan")
    save_file(tensors, adapter / "adapter_model.safetensors")


def lose_half(adapter: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    del tensors[f"{MODULE}.lora_B.weight"]
    save_file(tensors, adapter / "adapter_model.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a cut file": (cut, "ends at byte"),
    "a value that is no number": (turn_into_nan, "lora_B.weight holds a value that is not a number"),
    "half a pair": (lose_half, "has no matrix lora_B"),
    "another model's": (set_tensors(pair(ins=128)), "64 x 2 times 2 x 128, and model.layers.0.mlp.down_proj"),
    "a module that is not there": (
        set_tensors(pair("base_model.model.model.layers.7.mlp.down_proj")),
        "layers.7.mlp.down_proj.weight, which the model has not",
    ),
    "a layer of another kind": (
        set_tensors({f"{MODULE}.hada_w1_a": torch.ones(2, 2)}),
        "down_proj.hada_w1_a belongs to",
    ),
    "another rank": (set_config(r=4), "of rank 2, and adapter_config.json says 4"),
    "another method": (set_config(peft_type="IA3"), "an adapter of type IA3"),
    "a prompt": (set_config(peft_type="PROMPT_TUNING"), "an adapter of type PROMPT_TUNING"),
    "a kind of LoRA": (set_config(use_qalora=True), "use_qalora is set"),
    "a kind of LoRA to come": (set_config(use_something=[1]), "use_something is set"),
    "weights taken from the base": (set_config(init_lora_weights="pissa_niter_4"), "init_lora_weights pissa"),
    "no magnitudes": (set_config(use_dora=True), "has no lora_magnitude_vector"),
    "no number": (set_config(lora_alpha="8"), "lora_alpha is"),
    "an endless pattern": (set_config(alpha_pattern={"(x+x+)+y": 3, "(": 2}), "pattern ("),
    "no config": (lambda adapter: (adapter / "adapter_config.json").unlink(), "no adapter_config.json"),
    "no weights": (
        lambda adapter: (adapter / "adapter_model.safetensors").unlink(),
        "no adapter_model.safetensors",
    ),
    "another vocabulary": (
        set_tensors({"base_model.model.lm_head.weight": torch.ones(290, 64)}),
        "290 x 64, and lm_head.weight is 288 x 64",
    ),
    "zeros without a length": (
        lambda adapter: write_adapter(
            adapter,
            {**CONFIG, "use_dora": True},
            {
                **{name: 0 * tensor for name, tensor in pair().items()},
                f"{MODULE}.lora_magnitude_vector": torch.ones(64),
            },
        ),
        "a vector of zeros cannot be given a length",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_it_is_one_line_and_leaves_nothing(damage: str, place: Path) -> None:
    spoil, said = DAMAGES[damage]
    if damage == "zeros without a length":
        tensors = load_file(place / "model" / "model.safetensors")
        tensors["model.layers.0.mlp.down_proj.weight"] *= 0
        save_file(tensors, place / "model" / "model.safetensors", {"format": "pt"})
    spoil(place / "adapter")
    with pytest.raises(Failure) as raised:
        convert(place)
    assert said in raised.value.message
    assert "\n" not in raised.value.message
    assert raised.value.hint
    assert not [path for path in (place / "artifacts").rglob("*") if path.is_file() and path.name[0] != "."]


@pytest.mark.parametrize("damage", sorted(set(DAMAGES) - {"zeros without a length"}))
def test_what_does_not_fit_is_known_before_the_weights_are_here(damage: str, place: Path) -> None:
    spoil, said = DAMAGES[damage]
    spoil(place / "adapter")
    os.truncate(place / "model" / "model.safetensors", 0)  # a plan reads nothing of it
    with pytest.raises(Failure) as raised:
        plan_recipe(load_recipe(place / "recipe.yaml"), out=place / "artifacts", offline=True)
    assert said in raised.value.message


def test_the_recipe_says_what_there_is(place: Path) -> None:
    path = place / "recipe.yaml"
    path.write_text(path.read_text().replace("./adapter", "./other"))
    with pytest.raises(UsageFailure, match=r"recipe.yaml:2: adapter: there is no folder ./other"):
        load_recipe(path)
    path.write_text(path.read_text().replace("./other", "{repo: nobody, revision: main}"))
    with pytest.raises(UsageFailure, match=r"recipe.yaml:2: adapter.repo: 'nobody' is neither"):
        load_recipe(path)
    path.write_text(path.read_text().replace("repo: nobody", "repo: a/b, branch: x"))
    with pytest.raises(UsageFailure, match=r"adapter.branch: unknown key"):
        load_recipe(path)


def test_an_adapter_as_the_model_says_how_to_write_it(place: Path) -> None:
    path = place / "recipe.yaml"
    path.write_text("model: ./adapter\ntargets: {gguf: {quants: [Q8_0]}}\n")
    with pytest.raises(Failure, match="an adapter, which is not a whole model") as raised:
        convert(place)
    assert "model: Owner/Base-1B and adapter: ./adapter" in raised.value.hint


def test_an_adapter_repo_as_the_model_says_how_to_write_it(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "cache"))
    (place / "recipe.yaml").write_text("model: Tuner/Poet\ntargets: {gguf: {quants: [Q8_0]}}\n")
    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("Tuner/Poet", {path.name: path.read_bytes() for path in (place / "adapter").iterdir()})
        with pytest.raises(Failure, match="Tuner/Poet: an adapter") as raised:
            plan_recipe(load_recipe(place / "recipe.yaml"), out=place / "artifacts")
        assert "model: Owner/Base-1B and adapter: Tuner/Poet" in raised.value.hint
        assert not hub.bodies("adapter_model.safetensors")


def test_what_lies_around_is_remarked_on(place: Path) -> None:
    said: list[str] = []
    (place / "adapter" / "chat_template.jinja").write_text("{{ messages }}")
    convert(place, said)
    assert len(said) == 1
    assert "chat_template.jinja: not used" in said[0]
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(place / "adapter" / file, place / "model")
    (place / "recipe.yaml").write_text("model: ./model\ntargets: {gguf: {quants: [Q8_0]}}\n")
    said.clear()
    convert(place, said)
    assert len(said) == 1
    assert "adapter_config.json, adapter_model.safetensors: not merged" in said[0]


def test_a_pickle_is_read_without_running_it(place: Path) -> None:
    """The same adapter in PyTorch's own form gives the same bytes."""
    convert(place)
    artifact = next((place / "artifacts").rglob("*.gguf"))
    before = artifact.read_bytes()
    tensors = load_file(place / "adapter" / "adapter_model.safetensors")
    (place / "adapter" / "adapter_model.safetensors").unlink()
    torch.save(tensors, place / "adapter" / "adapter_model.bin")
    convert(place)
    assert artifact.read_bytes() == before
    assert np.frombuffer(before[-64:], np.uint8).any()

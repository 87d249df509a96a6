"""The canonical checkpoint: the source's very numbers, by Transformers' names, in safetensors' own bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from transformers import AutoModelForCausalLM, AutoTokenizer

from convert import plan_recipe
from convert.errors import Failure
from convert.formats import option_models
from convert.recipe import load
from convert.store import read_manifest
from tests import tiny
from tests.hf.describing import convert_to, described, make
from tests.hf.opening import opened
from verify.runtimes._weights import read_weights

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, 256, 60)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def stored(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def reference(source: Path, model_type: str) -> dict[str, torch.Tensor]:
    """The source's tensors, relabeled by what verification has for that."""
    own = tiny.CONFIGS[model_type]["model_type"]
    return {name: tensor.contiguous() for name, tensor in read_weights(source, own).items()}


def logits(folder: Path) -> Any:
    with torch.no_grad():
        return opened(folder)(torch.tensor([TOKENS])).logits[0].numpy()


@pytest.mark.parametrize("model_type", tiny.cases(tiny.CONFIGS, quick=("gpt2", "qwen")))
@pytest.mark.parametrize(
    "dtype",
    [
        "BF16",
        *(pytest.param(each, marks=[pytest.mark.slow, pytest.mark.exhaustive]) for each in ("F16", "F32")),
    ],
)
def test_every_tensor_is_the_source_s_bit_for_bit(model_type: str, dtype: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe(model_type, dtype=dtype, shards=2))
    out = convert_to(tmp_path, source, "hf: {}") / "hf"
    wanted, found = reference(source, model_type), stored(out)
    assert set(found) == set(wanted)
    for name, tensor in wanted.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    assert set(read_manifest(out).tensors.values()) == {dtype}


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "spelling"), tiny.SPELLINGS)
def test_another_spelling_becomes_the_family_s_own(model_type: str, spelling: int, tmp_path: Path) -> None:
    found = []
    for number in (0, spelling):
        source = make(tmp_path / f"source{number}", tiny.Recipe(model_type, spelling=number))
        (tmp_path / str(number)).mkdir()
        found.append(stored(convert_to(tmp_path / str(number), source, "hf: {}") / "hf"))
    assert found[0].keys() == found[1].keys()
    assert [name for name, tensor in found[0].items() if not torch.equal(tensor, found[1][name])] == []


@pytest.mark.slow  # the quick tests compare every tensor and the configuration
@pytest.mark.parametrize("model_type", tiny.cases(tiny.CONFIGS))
def test_it_answers_what_the_source_answers(model_type: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe(model_type, dtype="F32", spread=0.03))
    out = convert_to(tmp_path, source, "hf: {}") / "hf"
    assert np.array_equal(logits(out), logits(source))
    assert AutoTokenizer.from_pretrained(out).decode(TOKENS)


def test_the_bytes_are_those_of_the_format_s_own_library(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("gpt2", {"tie_word_embeddings": False}))
    out = convert_to(tmp_path, source, "hf: {}") / "hf"
    wanted = save(reference(source, "gpt2"), {"format": "pt"})
    assert (out / "model.safetensors").read_bytes() == wanted


def test_types_stay_apart_and_aligned(tmp_path: Path) -> None:
    """A source with float32 norms beside bfloat16 matrices keeps them so."""
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    made = tiny.tensors(tiny.Recipe("llama"))
    norms = {name: values for name, values in made.items() if "norm" in name}
    rest = {name: values for name, values in made.items() if "norm" not in name}
    (source / "model.safetensors").unlink()
    parts = {
        "model-00001-of-00002.safetensors": (norms, "F32"),
        "model-00002-of-00002.safetensors": (rest, "BF16"),
    }
    for name, (tensors, dtype) in parts.items():
        tiny.write_safetensors(source / name, tensors, dtype)
    files = {name: file for file, (tensors, _) in parts.items() for name in tensors}
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    out = convert_to(tmp_path, source, "hf: {}") / "hf"
    wanted = reference(source, "llama")
    assert (out / "model.safetensors").read_bytes() == save(wanted, {"format": "pt"})
    assert json.loads((out / "config.json").read_text("utf-8"))["torch_dtype"] == "bfloat16"
    assert set(read_manifest(out).tensors.values()) == {"BF16", "F32"}


@pytest.mark.parametrize(("asked", "dtype"), [("bf16", "BF16"), ("fp16", "F16"), ("fp32", "F32")])
def test_another_type_is_rounded_as_torch_rounds(asked: str, dtype: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("gpt2", dtype="F32"))
    out = convert_to(tmp_path, source, f"hf: {{dtype: {asked}}}") / "hf"
    torch_type = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}[dtype]
    found = stored(out)
    for name, tensor in reference(source, "gpt2").items():
        assert torch.equal(found[name], tensor.to(torch_type)), name
    assert AutoModelForCausalLM.from_pretrained(out).dtype is torch_type


def test_a_weight_beyond_fp16_is_refused(tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe("gpt2"))
    made = tiny.tensors(tiny.Recipe("gpt2"))
    made["transformer.h.1.mlp.c_fc.weight"][3, 3] = 1e6
    tiny.write_safetensors(source / "model.safetensors", made, "F32")
    with pytest.raises(Failure, match=r"h\.1\.mlp\.c_fc\.weight: a weight is larger than F16"):
        convert_to(tmp_path, source, "hf: {dtype: fp16}")
    assert not (tmp_path / "artifacts" / "recipe").exists()


@pytest.mark.parametrize("model_type", ["gpt2", "qwen", "phi3"])
def test_shards_and_threads_change_no_tensor(
    model_type: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convert.writer import engine  # noqa: PLC0415

    source = make(tmp_path / "source", tiny.Recipe(model_type))
    places = [tmp_path / name for name in ("one", "four")]
    for place, threads, weights in zip(places, (1, 4), (1 << 19, 1 << 12), strict=True):
        place.mkdir()
        monkeypatch.setattr(engine, "SLICE_WEIGHTS", weights)
        convert_to(place, source, "hf: {max_shard_size: 1M}", threads=threads)
    one, four = (
        {file.name: file.read_bytes() for file in (place / "artifacts/recipe/hf").iterdir()}
        for place in places
    )
    assert one == four
    index = json.loads(one["model.safetensors.index.json"])
    shards = sorted(set(index["weight_map"].values()))
    assert shards == [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in range(1, len(shards) + 1)]
    assert all(len(one[name]) < 1.1e6 for name in shards)
    out = places[0] / "artifacts/recipe/hf"
    for name in shards:
        with safe_open(out / name, "pt") as opened:
            assert opened.metadata() == {"format": "pt"}
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in stored(out).values())
    assert AutoModelForCausalLM.from_pretrained(out)


@pytest.mark.parametrize(
    ("said", "dtype", "promised"),
    [
        ({"torch_dtype": "float16"}, "F16", "F16"),
        ({"dtype": "torch.float32"}, "F32", "F32"),
        ({"bf16": True, "torch_dtype": "float32"}, "BF16", "BF16"),
        ({}, "BF16", "BF16"),
        ({}, "F32", "F32"),
        ({"tie_word_embeddings": True}, "BF16", "BF16"),
    ],
    ids=["torch_dtype", "dtype", "flag", "silent, 16 bits", "silent, 32 bits", "silent, tied and twice"],
)
def test_the_plan_knows_the_type_before_the_weights_are_here(
    said: dict[str, Any], dtype: str, promised: str, tmp_path: Path
) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama", said, dtype=dtype))
    if "tie_word_embeddings" in said:
        tensors = tiny.tensors(tiny.Recipe("llama", said))
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        tiny.write_safetensors(source / "model.safetensors", tensors, dtype)
    path = tmp_path / "recipe.yaml"
    path.write_text(f"model: {source}\ntargets: {{hf: {{}}}}\n", "utf-8")
    (planned,) = plan_recipe(load(path, option_models()), out=tmp_path / "artifacts", offline=True).targets
    weights_bytes = {"F32": 4, "F16": 2, "BF16": 2}[promised] * described(source).decoder.parameter_count
    assert planned.files[0].size_bytes == pytest.approx(weights_bytes, rel=0.01)
    built = convert_to(tmp_path, source, "hf: {}") / "hf" / "model.safetensors"
    assert built.stat().st_size == planned.files[0].size_bytes

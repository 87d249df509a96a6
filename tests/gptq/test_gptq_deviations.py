"""What manifests of weights for Transformers say came out otherwise: all that did, and nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from safetensors.torch import load_file, save_file

from convert import plan_recipe
from convert.quantizer import Quantized
from convert.store import read_manifest
from tests import tiny
from tests.gptq.making import convert, copying, recipe
from tests.hf.describing import make

if TYPE_CHECKING:
    from pathlib import Path

    from convert.quantizer import Job, Outcome

# Scaling of positions that our own reading of a decoder leaves out, and Transformers knows.
DYNAMIC = {"intermediate_size": 2 * 384, "rope_scaling": {"rope_type": "dynamic", "factor": 4.0}}
LOST = ["dynamic NTK scaling of rotary positions", "logarithmic scaling of attention"]


@pytest.mark.parametrize(("model_type", "lost"), [("llama", []), ("qwen", LOST)], ids=["llama", "qwen"])
def test_what_config_json_still_says_is_not_called_lost(
    model_type: str, lost: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copying(monkeypatch)
    source = make(tmp_path / "source", tiny.Recipe(model_type, DYNAMIC))
    targets = "hf: {}\n  gptq: {engine: gptqmodel}\n  awq: {}\n  gguf: {quants: [Q8_0]}"
    planned = plan_recipe(recipe(tmp_path, source, targets), out=tmp_path / "artifacts", offline=True)
    in_plan = {target.target: target.deviations for target in planned.targets}
    out = convert(tmp_path, source, targets)
    for name in ("hf", "gptq", "awq"):
        for found in (in_plan[name], read_manifest(out / name).deviations):
            said = [each.why.partition(" beyond")[0] for each in found if each.subject == "model"]
            assert said == lost, name
        scaling = json.loads((out / name / "config.json").read_text("utf-8")).get("rope_scaling")
        assert bool(scaling) == (not lost)
    assert any("dynamic NTK" in each.why for each in read_manifest(out / "gguf-Q8_0").deviations)


def test_a_type_that_changed_has_its_own_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As GPTQModel has it: biases of its matrices in F16, all else in what most of the model is stored in."""
    source = make(tmp_path / "source", tiny.Recipe("qwen2", {"intermediate_size": 768}))
    tensors = load_file(source / "model.safetensors")
    norms = {name for name in tensors if "norm" in name}
    wide = {name: tensor.float() if name in norms else tensor for name, tensor in tensors.items()}
    save_file(wide, source / "model.safetensors", {"format": "pt"})
    matrix = "model.layers.0.self_attn.q_proj"

    def narrow(job: Job, outcome: Outcome) -> Outcome:
        bias = tensors[f"{matrix}.bias"].half()
        save_file({**tensors, f"{matrix}.bias": bias}, job.out / "model.safetensors", {"format": "pt"})
        return replace(outcome, matrices=(Quantized(matrix, None, None),))

    copying(monkeypatch, afterwards=narrow)
    manifest = read_manifest(convert(tmp_path, source, "gptq: {engine: gptqmodel}") / "gptq")
    told = {(each.subject, each.wanted, each.got): each.why for each in manifest.deviations}
    assert "biases of quantized matrices" in told["1 tensor", "BF16", "F16"]
    assert "in the type that most of it has" in told[f"{len(norms)} tensors", "F32", "BF16"]


def test_a_source_wider_than_any_artifact_is_told_of_what_stays_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "source", tiny.Recipe("llama"))
    tensors = load_file(source / "model.safetensors")
    save_file({name: tensor.double() for name, tensor in tensors.items()}, source / "model.safetensors")
    copying(monkeypatch)
    out = convert(tmp_path, source, "gptq: {engine: gptqmodel}\n  awq: {}")
    manifest = read_manifest(out / "gptq")
    told = {each.subject for each in manifest.deviations if (each.wanted, each.got) == ("F64", "F32")}
    assert told == {name for name in tensors if "norm" in name or "layers" not in name}
    (narrowed,) = (each for each in read_manifest(out / "awq").deviations if "16 bits" in each.why)
    assert (narrowed.subject, narrowed.wanted, narrowed.got) == ("weights", "F64", "F16")

"""A quantized source becomes the files that its widened weights would become, and each of these says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert import plan_recipe
from convert.errors import Failure
from convert.formats import load_recipe
from convert.store import read_manifest
from tests import tiny
from tests.checkpoint.quantized.sources import CASES, plain, quantized, stacked, write_section
from tests.gptq.making import convert as gptq_convert
from tests.gptq.making import copying
from tests.hf.describing import convert_to, make
from tests.verify.opening import logits, opened
from verify.runtimes._weights import read_weights

IDS = [5, 80, 200, 31, 77, 9]


@pytest.mark.parametrize("case", [*CASES, "mxfp4"])
def test_the_files_are_those_of_the_widened_weights(case: str, tmp_path: Path) -> None:
    source = stacked(tmp_path / "source") if case == "mxfp4" else quantized(tmp_path / "source", case)
    wide = plain(source, tmp_path / "wide")
    targets = "gguf: {quants: [F32, Q8_0]}\n  hf: {dtype: bf16}"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found, wanted = (
        convert_to(tmp_path / place, model, targets, threads=2)
        for place, model in (("a", source), ("b", wide))
    )
    for file in ("gguf-F32/recipe-F32.gguf", "gguf-Q8_0/recipe-Q8_0.gguf", "hf/model.safetensors"):
        assert (found / file).read_bytes() == (wanted / file).read_bytes(), file
    config = json.loads((found / "hf" / "config.json").read_text())
    assert config == json.loads((wanted / "hf" / "config.json").read_text())
    assert "quantization_config" not in config


@pytest.mark.parametrize("case", CASES)
def test_plan_and_manifest_say_what_the_source_is_stored_as(case: str, tmp_path: Path) -> None:
    source, label = quantized(tmp_path / "source", case), CASES[case][2]
    out = convert_to(tmp_path, source, "hf: {}")
    said = f"its weights are stored as {label} and were widened: what that lost stays lost"
    assert said in {each.why for each in read_manifest(out / "hf").deviations}
    assert set(read_manifest(out / "hf").tensors.values()) == {"BF16"}
    (target,) = plan_recipe(
        load_recipe(tmp_path / "recipe.yaml"), out=tmp_path / "other", offline=True
    ).targets
    assert said in {each.why for each in target.deviations}


def test_a_tool_gets_a_checkpoint_of_widened_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = quantized(tmp_path / "source", "fp8")
    wanted = load_file(plain(source, tmp_path / "wide") / "model.safetensors")
    copying(monkeypatch)
    out = gptq_convert(tmp_path, source, "gptq: {bits: 4, engine: gptqmodel}") / "gptq"
    assert "quantization_config" not in json.loads((out / "config.json").read_text())
    found = load_file(out / "model.safetensors")
    assert found.keys() == wanted.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name].bfloat16()), name


def test_biases_of_zeros_that_a_quantizer_added(tmp_path: Path) -> None:
    source = quantized(tmp_path / "source", "gptq")
    tensors = load_file(source / "model.safetensors")
    added = "model.layers.0.mlp.down_proj.bias"
    save_file({**tensors, added: torch.zeros(256, dtype=torch.float16)}, source / "model.safetensors")
    assert added not in load_file(convert_to(tmp_path, source, "hf: {}") / "hf" / "model.safetensors")
    save_file({**tensors, added: torch.ones(256, dtype=torch.float16)}, source / "model.safetensors")
    with pytest.raises(Failure, match=r"down_proj\.bias\) in the checkpoint that the model has no place for"):
        convert_to(tmp_path, source, "hf: {}")


def test_a_damaged_scale_leaves_nothing_behind(tmp_path: Path) -> None:
    source = quantized(tmp_path / "source", "fp8")
    tensors = load_file(source / "model.safetensors")
    tensors["model.layers.2.mlp.down_proj.weight_scale_inv"][1, 1] = float("nan")
    save_file(tensors, source / "model.safetensors")
    (tmp_path / "recipe.yaml").write_text("model: source\ntargets: {gguf: {quants: [Q8_0]}, hf: {}}\n")
    line = [sys.executable, "-m", "convert.cli", "--quiet", "convert", "recipe.yaml", "--out", "out"]
    place = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(line, cwd=tmp_path, env=place, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith(
        "error: model.safetensors: model.layers.2.mlp.down_proj.weight_scale_inv holds a "
    )
    assert hint.startswith("hint:")
    # The turn that conversions take is no part of any.
    assert {path.name for path in (tmp_path / "out").rglob("*") if path.is_file()} <= {".turn"}


def test_an_unknown_kind_is_refused_by_the_plan(tmp_path: Path) -> None:
    make(tmp_path / "source", tiny.Recipe("llama"))
    write_section(tmp_path / "source", {"quant_method": "hqq"})
    (tmp_path / "recipe.yaml").write_text(f"model: {tmp_path / 'source'}\ntargets: {{hf: {{}}}}\n")
    with pytest.raises(Failure, match="quantized by HQQ, which is not read"):
        plan_recipe(load_recipe(tmp_path / "recipe.yaml"), out=tmp_path / "out", offline=True)


@pytest.mark.parametrize("case", CASES)
def test_verification_reads_widened_weights(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = quantized(tmp_path / "source", case)
    wanted = load_file(plain(source, tmp_path / "wide") / "model.safetensors")
    for dtype in (torch.float32, torch.bfloat16):

        def fits(needed_bytes: int, dtype: torch.dtype = dtype) -> bool:
            assert needed_bytes > 1 << 20
            return dtype is torch.float32

        found = read_weights(source, "llama", is_wide=fits)
        assert set(found) == set(wanted)
        for name, tensor in found.items():
            assert torch.equal(tensor, wanted[name].to(dtype)), name
    assert not [each for each in tmp_path.iterdir() if each.is_file()]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["gptq", pytest.param("fp8", marks=pytest.mark.exhaustive)])
def test_verification_asks_the_source_with_widened_weights(case: str, tmp_path: Path) -> None:
    source = quantized(tmp_path / "source", case)
    with opened("transformers", source) as worker:
        found = logits(worker, IDS)
        assert worker.info.notes["weights"] == "float32"
    with opened("transformers", plain(source, tmp_path / "wide")) as worker:
        wanted = logits(worker, IDS)
    assert found.tobytes() == wanted.tobytes()
    with opened("transformers", source, dtype="streamed") as worker:
        near = logits(worker, IDS)
        assert worker.info.notes["weights"] == "bfloat16"
    # Rounded to 16 bits, which the products of FP8 and powers of two are anyway.
    assert np.abs(near - wanted).max() < 0.02 * np.abs(wanted).max()

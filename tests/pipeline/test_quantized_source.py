"""A quantized source becomes the files that its widened weights would become, and each of these says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from convert import plan_recipe
from convert.checkpoint import open_checkpoint
from convert.errors import Failure
from convert.formats import load_recipe
from convert.store import read_manifest
from tests import tiny
from tests.checkpoint.quantized.widening import codes, words
from tests.hf.describing import convert_to, make
from tests.verify.opening import logits, opened
from verify.runtimes._weights import read_weights

if TYPE_CHECKING:
    from collections.abc import Callable

Tensors = dict[str, torch.Tensor]
IDS = [5, 80, 200, 31, 77, 9]


def by_block(name: str, weight: torch.Tensor) -> Tensors:
    scale = torch.full((-(-weight.shape[0] // 128), -(-weight.shape[1] // 128)), 0.25)
    return {f"{name}.weight": (weight * 4).to(torch.float8_e4m3fn), f"{name}.weight_scale_inv": scale}


def packed(name: str, weight: torch.Tensor) -> Tensors:
    rows, columns = weight.shape
    integers = (weight * 32).round().clamp(-8, 7).long() + 8
    return {
        f"{name}.weight_packed": words(integers, 4, 1),
        f"{name}.weight_scale": torch.full((rows, columns // 32), 1 / 32, dtype=torch.bfloat16),
        f"{name}.weight_shape": torch.tensor([rows, columns]),
    }


def gptq(name: str, weight: torch.Tensor) -> Tensors:
    rows, columns = weight.shape
    integers = (weight.T * 32).round().clamp(-8, 7).long() + 8
    return {
        f"{name}.qweight": words(integers, 4, 0),
        f"{name}.qzeros": words(torch.full((columns // 32, rows), 7), 4, 1),
        f"{name}.scales": torch.full((columns // 32, rows), 1 / 32, dtype=torch.float16),
        f"{name}.g_idx": torch.arange(columns).div(32, rounding_mode="floor").int(),
    }


GROUP = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "group_size": 32}}
CASES: dict[str, tuple[dict[str, Any], Callable[[str, torch.Tensor], Tensors], str]] = {
    "fp8": (
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        by_block,
        "FP8 (E4M3, scale per 128 x 128)",
    ),
    "compressed-tensors": (
        {"quant_method": "compressed-tensors", "format": "pack-quantized", "config_groups": {"a": GROUP}},
        packed,
        "INT4 (scale per group of 32)",
    ),
    "gptq": (
        {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False},
        gptq,
        "GPTQ INT4 (scale per group of 32)",
    ),
}


def quantized(folder: Path, case: str) -> Path:
    """Quantize the matrices of a tiny model, all but the embedding and the head."""
    section, quantize, _ = CASES[case]
    make(folder, tiny.Recipe("llama", {"torch_dtype": "bfloat16"}))
    tensors: Tensors = {}
    for name, tensor in load_file(folder / "model.safetensors").items():
        is_matrix = name.endswith("_proj.weight")
        tensors |= quantize(name.removesuffix(".weight"), tensor.float()) if is_matrix else {name: tensor}
    save_file(tensors, folder / "model.safetensors")
    write_section(folder, section)
    return folder


def stacked(folder: Path) -> Path:
    """Write experts as blocks, as gpt-oss has them."""
    make(folder, tiny.Recipe("gpt_oss", {"torch_dtype": "bfloat16"}))
    tensors = load_file(folder / "model.safetensors")
    for name in [name for name in tensors if name.endswith("_proj") and "experts" in name]:
        experts, inputs, outputs = tensors.pop(name).shape
        blocks = codes(256, experts, outputs, inputs // 32, 16).to(torch.uint8)
        tensors[f"{name}_blocks"] = blocks
        tensors[f"{name}_scales"] = torch.full(blocks.shape[:3], 122, dtype=torch.uint8)
    save_file(tensors, folder / "model.safetensors")
    write_section(folder, {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]})
    return folder


def write_section(folder: Path, section: dict[str, Any]) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": section}))


def plain(source: Path, folder: Path) -> Path:
    """Write the same model without quantization, in float32."""
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix != ".safetensors":
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    del config["quantization_config"]
    (folder / "config.json").write_text(json.dumps(config))
    with open_checkpoint(source) as checkpoint:
        tensors = {name: whole(checkpoint, name, info.shape) for name, info in checkpoint.tensors.items()}
    save_file({name: torch.from_numpy(each) for name, each in tensors.items()}, folder / "model.safetensors")
    return folder


def whole(checkpoint: Any, name: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    if len(shape) < 3:
        return np.array(checkpoint.rows(name, 0, shape[0])).reshape(shape)
    return np.stack([checkpoint.rows(name, 0, shape[1], index=index) for index in range(shape[0])])


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
@pytest.mark.parametrize("case", ["fp8", "gptq"])
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

"""Tiny models whose matrices are quantized, and the same models with these widened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from convert.checkpoint import open_checkpoint
from tests import tiny
from tests.checkpoint.quantized.widening import codes, words
from tests.hf.describing import make

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Tensors = dict[str, torch.Tensor]


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


GROUP = {
    "targets": ["Linear"],
    "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32},
}
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

"""ModelOpt's forms widen by the formula of its documents: a code, by its scale, by the scale of scales."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import torch
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from safetensors.torch import save_file

from tests.checkpoint.quantized.widening import assert_widened, codes, save, seeded

if TYPE_CHECKING:
    from pathlib import Path

KV = {"a.k_proj.k_scale": torch.ones(1), "a.v_proj.v_scale": torch.ones(1)}


def nvfp4(*leading: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    packed = codes(256, *leading, 24, 32).to(torch.uint8)
    scale = (seeded(*leading, 24, 4, seed=1).abs() * 100 + 1).to(torch.float8_e4m3fn)
    common = torch.tensor(0.00317)
    tensors = {"weight": packed, "weight_scale": scale, "weight_scale_2": common}
    tensors["input_scale"] = torch.tensor(0.5)
    values = unpack_fp4_from_uint8(packed, 24, 64, torch.float32)
    return tensors, values * (scale.float() * common).repeat_interleave(16, -1)


@pytest.mark.parametrize("is_apart", [False, True], ids=["in the config", "in a file of its kind"])
def test_nvfp4(tmp_path: Path, *, is_apart: bool) -> None:
    stored, reference = nvfp4()
    tensors = {**{f"a.{name}": tensor for name, tensor in stored.items()}, **KV}
    if is_apart:
        save_file(tensors, tmp_path / "model.safetensors")
        record = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
        (tmp_path / "hf_quant_config.json").write_text(json.dumps(record))
        (tmp_path / "config.json").write_text("{}")
    else:
        save(tmp_path, {"quant_method": "modelopt", "quant_algo": "NVFP4"}, tensors)
    info = assert_widened(tmp_path, "a.weight", reference)
    assert info.stored_as == "NVFP4 (E2M1, scale per group of 16)"


@pytest.mark.parametrize(
    ("algorithm", "shape", "block", "words"),
    [
        ("FP8", (), None, "one scale"),
        ("FP8_PER_CHANNEL_PER_TOKEN", (24,), None, "scale per row"),
        ("FP8_PB_WO", (1, 2), 128, "scale per 128 x 128"),
    ],
)
def test_fp8(tmp_path: Path, algorithm: str, shape: tuple[int, ...], block: int | None, words: str) -> None:
    columns = 256 if block else 40
    weight, scale = (seeded(24, columns) * 900).to(torch.float8_e4m3fn), seeded(*shape, seed=1).abs()
    tensors = {"a.weight": weight, "a.weight_scale": scale, "a.input_scale": torch.ones(()), **KV}
    save(tmp_path, {"quant_method": "modelopt", "quant_algo": algorithm}, tensors)
    wide = scale.repeat_interleave(block, -1) if block else scale.reshape(-1, 1)
    info = assert_widened(tmp_path, "a.weight", weight.float() * wide)
    assert info.stored_as == f"FP8 (E4M3, {words})"


def test_both_at_once(tmp_path: Path) -> None:
    stored, reference = nvfp4()
    weight = seeded(24, 40).to(torch.float8_e4m3fn)
    save(
        tmp_path,
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {"a": {"quant_algo": "NVFP4"}, "b": {"quant_algo": "FP8"}},
        },
        {
            **{f"a.{name}": tensor for name, tensor in stored.items()},
            "b.weight": weight,
            "b.weight_scale": torch.tensor(0.5),
        },
    )
    assert_widened(tmp_path, "a.weight", reference)
    assert_widened(tmp_path, "b.weight", weight.float() * 0.5)

"""FP8 widens as Transformers widens it, whatever shares a scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers.integrations.finegrained_fp8 import Fp8Dequantize, _dequantize_fp8_weight

from convert.checkpoint import open_checkpoint
from tests.checkpoint.quantized.widening import assert_widened, save, seeded

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic"}
STATIC = {"quant_method": "fp8", "weight_block_size": None, "activation_scheme": "static"}


def widened(weight: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    found: torch.Tensor = Fp8Dequantize(None)._dequantize_one(weight, scale, torch.float32)
    return found


def fp8(*shape: int) -> torch.Tensor:
    return (seeded(*shape) * 1000).to(torch.float8_e4m3fn)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_by_block(tmp_path: Path, dtype: torch.dtype) -> None:
    weight, scale = fp8(256, 384), seeded(2, 3, seed=1).abs().to(dtype)
    save(tmp_path, BLOCKS, {"a.weight": weight, "a.weight_scale_inv": scale})
    info = assert_widened(tmp_path, "a.weight", widened(weight, scale))
    assert info.stored_as == "FP8 (E4M3, scale per 128 x 128)"
    assert info.dtype == "BF16"


def test_by_block_where_the_last_ones_are_cut(tmp_path: Path) -> None:
    weight, scale = fp8(200, 300), seeded(2, 3, seed=1).abs()
    save(tmp_path, BLOCKS, {"a.weight": weight, "a.weight_scale_inv": scale})
    reference = _dequantize_fp8_weight(weight, scale, [128, 128], torch.float32)
    assert_widened(tmp_path, "a.weight", reference)


def test_a_stack_of_experts(tmp_path: Path) -> None:
    weight, scale = fp8(3, 256, 128), seeded(3, 2, 1, seed=1).abs()
    save(tmp_path, BLOCKS, {"experts.gate_up_proj": weight, "experts.gate_up_proj_scale_inv": scale})
    assert_widened(tmp_path, "experts.gate_up_proj", widened(weight, scale))


@pytest.mark.parametrize("name", ["weight_scale_inv", "weight_scale"])
@pytest.mark.parametrize(
    ("shape", "words"),
    [((), "one scale"), ((1,), "one scale"), ((24, 1), "scale per row"), ((24,), "scale per row")],
)
def test_by_row_and_by_matrix(tmp_path: Path, name: str, shape: tuple[int, ...], words: str) -> None:
    weight, scale = fp8(24, 40), seeded(*shape, seed=2).abs()
    activation = {"a.activation_scale": torch.tensor(0.5), "a.input_scale": torch.tensor(0.5)}
    save(tmp_path, STATIC, {"a.weight": weight, f"a.{name}": scale, **activation})
    reference = weight.float() * scale.reshape(-1, 1)
    info = assert_widened(tmp_path, "a.weight", reference)
    assert info.stored_as == f"FP8 (E4M3, {words})"


def test_exponents_as_scales(tmp_path: Path) -> None:
    weight = fp8(16, 64)
    scale = torch.tensor([[100, 127], [130, 90]], dtype=torch.uint8).repeat(8, 1)
    save(tmp_path, {"quant_method": "mxfp8"}, {"a.weight": weight, "a.weight_scale_inv": scale})
    assert_widened(tmp_path, "a.weight", widened(weight, scale))


def test_fbgemm(tmp_path: Path) -> None:
    weight, scale = fp8(24, 40), seeded(24, 1, seed=2).abs()
    more = {"a.input_scale_ub": torch.tensor([1200.0])}
    save(tmp_path, {"quant_method": "fbgemm_fp8"}, {"a.weight": weight, "a.weight_scale": scale, **more})
    assert_widened(tmp_path, "a.weight", weight.float() * scale)


def test_what_is_not_quantized_passes_as_it_is(tmp_path: Path) -> None:
    plain = seeded(5, 3).to(torch.bfloat16)
    weight, scale = fp8(128, 128), torch.ones(1, 1)
    folder = save(
        tmp_path, BLOCKS, {"a.weight": weight, "a.weight_scale_inv": scale, "norm.weight": plain},
        torch_dtype="float16",
    )  # fmt: skip
    with open_checkpoint(folder) as checkpoint:
        assert set(checkpoint.tensors) == {"a.weight", "norm.weight"}
        assert checkpoint.tensors["a.weight"].dtype == "F16"
        norm = checkpoint.tensors["norm.weight"]
        assert (norm.dtype, norm.stored_as) == ("BF16", None)
        assert checkpoint.rows("norm.weight", 1, 4).tobytes() == plain[1:4].float().numpy().tobytes()
        checkpoint.release("norm.weight")
        with pytest.raises(TypeError, match=r"a\.weight is quantized"):
            checkpoint.read("a.weight")

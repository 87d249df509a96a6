"""Stacks of MXFP4 blocks widen as Transformers widens them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tests.checkpoint.quantized.widening import assert_widened, codes, save

if TYPE_CHECKING:
    from pathlib import Path


def test_a_stack_of_experts(tmp_path: Path) -> None:
    blocks = codes(256, 3, 24, 4, 16).to(torch.uint8)
    scales = codes(140, 3, 24, 4, low=100).to(torch.uint8)
    name = "layers.0.mlp.experts.gate_up_proj"
    bias = torch.ones(3, 24, dtype=torch.bfloat16)
    save(
        tmp_path, {"quant_method": "mxfp4"},
        {f"{name}_blocks": blocks, f"{name}_scales": scales, f"{name}_bias": bias},
    )  # fmt: skip
    reference = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32)
    assert reference.shape == (3, 128, 24)
    info = assert_widened(tmp_path, name, reference)
    assert info.stored_as == "MXFP4 (E2M1, scale per group of 32)"


def test_every_code_with_the_smallest_and_the_largest_exponents(tmp_path: Path) -> None:
    blocks = torch.arange(256, dtype=torch.uint8).reshape(1, 4, 4, 16)
    for exponent in (0, 1, 2, 251):
        scales = torch.full((1, 4, 4), exponent, dtype=torch.uint8)
        save(tmp_path, {"quant_method": "mxfp4"}, {"a_blocks": blocks, "a_scales": scales})
        assert_widened(tmp_path, "a", convert_moe_packed_tensors(blocks, scales, dtype=torch.float32))

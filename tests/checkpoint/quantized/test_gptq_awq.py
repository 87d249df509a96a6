"""GPTQ and AWQ widen as GPTQModel's own layers do, with scales in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.checkpoint.quantized.widening import assert_widened, codes, save, seeded, words

if TYPE_CHECKING:
    from pathlib import Path

INPUTS, OUTPUTS, GROUP = 96, 40, 32


def parts(bits: int, *, groups: int, is_ordered: bool) -> dict[str, torch.Tensor]:
    size = INPUTS // groups
    order = torch.arange(INPUTS).div(size, rounding_mode="floor").int()
    if is_ordered:
        order = order[torch.randperm(INPUTS, generator=torch.Generator().manual_seed(5))]
    return {
        "qweight": words(codes(2**bits, INPUTS, OUTPUTS), bits, 0),
        "qzeros": words(codes(2**bits, groups, OUTPUTS, seed=8), bits, 1),
        "scales": (seeded(groups, OUTPUTS, seed=2).abs() + 0.01).half(),
        "g_idx": order,
    }


def by_gptqmodel(stored: dict[str, torch.Tensor], bits: int, group: int, layout: str) -> torch.Tensor:
    """Widen by GPTQModel's layer, which has the matrix (inputs, outputs)."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear  # noqa: PLC0415 - it takes seconds
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module  # noqa: PLC0415

    layer = TorchLinear(
        bits=bits, group_size=group, sym=False, desc_act=True,
        in_features=INPUTS, out_features=OUTPUTS, bias=False, dtype=torch.float16,
    )  # fmt: skip
    for name, tensor in stored.items():
        setattr(layer, name, tensor.float() if name == "scales" else tensor.clone())
    if layout == "gptq":
        convert_gptq_v1_to_v2_format_module(layer, bits, torch.int32)
    layer.post_init()
    found: torch.Tensor = layer.dequantize_weight()
    return found.T.contiguous()


@pytest.mark.parametrize("layout", ["gptq", "gptq_v2"])
@pytest.mark.parametrize("bits", [4, 8, 2])
@pytest.mark.parametrize(
    ("groups", "is_ordered"), [(3, False), (3, True), (1, False)], ids=["groups", "ordered", "rows"]
)
def test_gptq(tmp_path: Path, bits: int, layout: str, groups: int, *, is_ordered: bool) -> None:
    stored = parts(bits, groups=groups, is_ordered=is_ordered)
    group = GROUP if groups > 1 else -1
    section: dict[str, Any] = {"quant_method": "gptq", "bits": bits, "group_size": group}
    section |= {"desc_act": is_ordered, "sym": False, "checkpoint_format": layout}
    save(tmp_path, section, {f"a.{name}": tensor for name, tensor in stored.items()}, torch_dtype="float16")
    info = assert_widened(tmp_path, "a.weight", by_gptqmodel(stored, bits, group, layout))
    shared = f"scale per group of {GROUP}" if groups > 1 else "scale per row"
    assert (info.dtype, info.stored_as) == ("F16", f"GPTQ INT{bits} ({shared})")


def test_gptq_without_a_list_of_groups(tmp_path: Path) -> None:
    stored = parts(4, groups=3, is_ordered=False)
    section = {"quant_method": "gptq", "bits": 4, "group_size": GROUP}
    named = {f"a.{name}": tensor for name, tensor in stored.items() if name != "g_idx"}
    save(tmp_path, section, named)
    assert_widened(tmp_path, "a.weight", by_gptqmodel(stored, 4, GROUP, "gptq"))


@pytest.mark.parametrize("group", [GROUP, -1])
def test_awq(tmp_path: Path, group: int) -> None:
    from gptqmodel.quantization.awq.utils.packing_utils import (  # noqa: PLC0415 - it takes seconds
        dequantize_gemm,
        pack_awq,
    )

    groups = INPUTS // group if group > 0 else 1
    weight, zeros = pack_awq(codes(16, INPUTS, OUTPUTS), codes(16, groups, OUTPUTS, seed=8), 4)
    scales = seeded(groups, OUTPUTS, seed=2).abs().half()
    section = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    save(tmp_path, section, {"a.qweight": weight, "a.qzeros": zeros, "a.scales": scales})
    reference = dequantize_gemm(weight, zeros, scales.float(), 4, group if group > 0 else INPUTS)
    info = assert_widened(tmp_path, "a.weight", reference.T.contiguous())
    assert info.stored_as == f"AWQ INT4 ({'scale per row' if group < 0 else f'scale per group of {GROUP}'})"

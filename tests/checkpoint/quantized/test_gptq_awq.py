"""GPTQ and AWQ widen by their formula, and as GPTQModel's own layers do with scales in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.checkpoint.quantized.widening import assert_widened, codes, save, seeded, words

if TYPE_CHECKING:
    from pathlib import Path

INPUTS, OUTPUTS, GROUP = 96, 40, 32
ALL_GPTQ = [
    pytest.mark.parametrize("layout", ["gptq", "gptq_v2"]),
    pytest.mark.parametrize("bits", [4, 8, 2]),
    pytest.mark.parametrize(
        ("groups", "is_ordered"), [(3, False), (3, True), (1, False)], ids=["groups", "ordered", "rows"]
    ),
]


def every_gptq(test: Any) -> Any:
    for mark in ALL_GPTQ:
        test = mark(test)
    return test


def scales(groups: int) -> torch.Tensor:
    return (seeded(groups, OUTPUTS, seed=2).abs() + 0.01).half()


def order(groups: int, *, is_ordered: bool) -> torch.Tensor:
    found = torch.arange(INPUTS).div(INPUTS // groups, rounding_mode="floor").int()
    return found[torch.randperm(INPUTS, generator=torch.Generator().manual_seed(5))] if is_ordered else found


def assert_gptq(
    folder: Path, stored: dict[str, torch.Tensor], bits: int, layout: str, reference: torch.Tensor
) -> None:
    """Save as GPTQ, and compare with the reference, (inputs, outputs)."""
    groups = len(stored["scales"])
    section: dict[str, Any] = {"quant_method": "gptq", "bits": bits, "checkpoint_format": layout}
    section["group_size"] = GROUP if groups > 1 else -1
    save(folder, section, {f"a.{name}": tensor for name, tensor in stored.items()}, torch_dtype="float16")
    info = assert_widened(folder, "a.weight", reference.T.contiguous())
    shared = f"scale per group of {GROUP}" if groups > 1 else "scale per row"
    assert (info.dtype, info.stored_as) == ("F16", f"GPTQ INT{bits} ({shared})")


@every_gptq
def test_gptq_by_its_formula(
    tmp_path: Path, bits: int, layout: str, groups: int, *, is_ordered: bool
) -> None:
    weight, zeros = codes(2**bits, INPUTS, OUTPUTS), codes(2**bits, groups, OUTPUTS, low=1, seed=8)
    index = order(groups, is_ordered=is_ordered)
    stored = {
        "qweight": words(weight, bits, 0),
        "qzeros": words(zeros - 1 if layout == "gptq" else zeros, bits, 1),
        "scales": scales(groups),
        "g_idx": index,
    }
    index = index.long()
    reference = stored["scales"].float()[index] * (weight - zeros[index])
    assert_gptq(tmp_path, stored, bits, layout, reference)
    if not is_ordered and bits == 4:
        assert_gptq(tmp_path, {k: v for k, v in stored.items() if k != "g_idx"}, bits, layout, reference)


@pytest.mark.slow
@every_gptq
def test_gptq_as_gptqmodel(tmp_path: Path, bits: int, layout: str, groups: int, *, is_ordered: bool) -> None:
    """A zero point that overflows changes its neighbor, here as there."""
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear  # noqa: PLC0415 - it takes seconds
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module  # noqa: PLC0415

    stored = {
        "qweight": words(codes(2**bits, INPUTS, OUTPUTS), bits, 0),
        "qzeros": words(codes(2**bits, groups, OUTPUTS, seed=8), bits, 1),
        "scales": scales(groups),
        "g_idx": order(groups, is_ordered=is_ordered),
    }
    layer = TorchLinear(
        bits=bits, group_size=GROUP if groups > 1 else -1, sym=False, desc_act=True,
        in_features=INPUTS, out_features=OUTPUTS, bias=False, dtype=torch.float16,
    )  # fmt: skip
    for name, tensor in stored.items():
        setattr(layer, name, tensor.float() if name == "scales" else tensor.clone())
    if layout == "gptq":
        convert_gptq_v1_to_v2_format_module(layer, bits, torch.int32)
    layer.post_init()
    assert_gptq(tmp_path, stored, bits, layout, layer.dequantize_weight())


def assert_awq(
    folder: Path, stored: tuple[torch.Tensor, torch.Tensor], factors: torch.Tensor, reference: torch.Tensor
) -> None:
    group = GROUP if len(factors) > 1 else -1
    section = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    save(folder, section, {"a.qweight": stored[0], "a.qzeros": stored[1], "a.scales": factors})
    info = assert_widened(folder, "a.weight", reference.T.contiguous())
    assert info.stored_as == f"AWQ INT4 ({'scale per row' if group < 0 else f'scale per group of {GROUP}'})"


@pytest.mark.parametrize("groups", [3, 1])
def test_awq_by_its_formula(tmp_path: Path, groups: int) -> None:
    weight, zeros, factors = codes(16, INPUTS, OUTPUTS), codes(16, groups, OUTPUTS, seed=8), scales(groups)

    def packed(values: torch.Tensor) -> torch.Tensor:
        turned = values.reshape(len(values), -1, 8)[:, :, [0, 2, 4, 6, 1, 3, 5, 7]]
        return words(turned.reshape(values.shape), 4, 1)

    index = order(groups, is_ordered=False).long()
    reference = (weight - zeros[index]) * factors.float()[index]
    assert_awq(tmp_path, (packed(weight), packed(zeros)), factors, reference)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [3, 1])
def test_awq_as_gptqmodel(tmp_path: Path, groups: int) -> None:
    from gptqmodel.quantization.awq.utils.packing_utils import (  # noqa: PLC0415 - it takes seconds
        dequantize_gemm,
        pack_awq,
    )

    stored = pack_awq(codes(16, INPUTS, OUTPUTS), codes(16, groups, OUTPUTS, seed=8), 4)
    reference = dequantize_gemm(*stored, scales(groups).float(), 4, INPUTS // groups)
    assert_awq(tmp_path, stored, scales(groups), reference)

"""Each format of compressed-tensors widens as its own compressor does, with scales in float32.

The compressors compute in the scales' type. Scales of 16 bits are the same numbers in float32, where products
are not rounded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.mx_utils import decompress_mx_scale
from compressed_tensors.compressors.nvfp4.helpers import unpack_fp4_from_uint8
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from compressed_tensors.quantization.lifecycle.forward import dequantize

from tests.checkpoint.quantized.widening import assert_widened, codes, save, seeded

if TYPE_CHECKING:
    from pathlib import Path


def section(format_: str, weights: dict[str, Any], **more: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": format_,
        "config_groups": {"group_0": group},
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        **more,
    }


def decompressed(format_: str, weights: dict[str, Any], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """Ask the package itself."""
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
    compressor = BaseCompressor.get_value_from_registry(format_)
    found: torch.Tensor = compressor.decompress(tensors, scheme)["weight"]
    return found


def compressed(
    format_: str, weights: dict[str, Any], tensors: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    scheme = QuantizationScheme(targets=["Linear"], weights=QuantizationArgs(**weights))
    return dict(BaseCompressor.get_value_from_registry(format_).compress(tensors, scheme))


def check(
    folder: Path, format_: str, weights: dict[str, Any], stored: dict[str, torch.Tensor], words: str
) -> None:
    head = {"lm_head.weight": torch.ones(2, 2, dtype=torch.bfloat16), "a.input_scale": torch.ones(1)}
    named = {f"a.{name}": tensor for name, tensor in stored.items()}
    save(folder, section(format_, weights), {**named, **head})
    info = assert_widened(folder, "a.weight", decompressed(format_, weights, stored))
    assert info.stored_as == words


PLAIN: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "FP8 (E4M3, scale per row)": ("float-quantized", {"type": "float", "strategy": "channel"}, (24, 1)),
    "FP8 (E4M3, one scale)": ("float-quantized", {"type": "float", "strategy": "tensor"}, (1,)),
    "FP8 (E4M3, scale per 16 x 32)": (
        "float-quantized",
        {"type": "float", "strategy": "block", "block_structure": [16, 32]},
        (2, 2),
    ),
    "INT8 (scale per row)": ("int-quantized", {"type": "int", "strategy": "channel"}, (24, 1)),
    "INT8 (one scale)": ("int-quantized", {"type": "int", "strategy": "tensor"}, (1,)),
}


@pytest.mark.parametrize("words", PLAIN)
def test_eight_bits(tmp_path: Path, words: str) -> None:
    format_, how, shape = PLAIN[words]
    weights = {"num_bits": 8, **how}
    scale = seeded(*shape, seed=1).abs()
    weight = seeded(24, 40) if "INT" not in words else codes(128, 24, 40, low=-128).to(torch.int8)
    stored = weight.to(torch.float8_e4m3fn) if "FP8" in words else weight
    check(tmp_path, format_, weights, {"weight": stored, "weight_scale": scale}, words)


def test_eight_bits_with_zero_points(tmp_path: Path) -> None:
    weights = {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": False}
    stored = {
        "weight": codes(128, 24, 40, low=-128).to(torch.int8),
        "weight_scale": seeded(24, 1, seed=1).abs(),
        "weight_zero_point": codes(100, 24, 1, low=-100, seed=9).to(torch.int8),
    }
    check(tmp_path, "int-quantized", weights, stored, "INT8 (scale per row)")


@pytest.mark.parametrize("symmetric", [True, False], ids=["symmetric", "with zero points"])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [None, 16], ids=["rows", "groups"])
def test_packed_integers(tmp_path: Path, bits: int, group: int | None, *, symmetric: bool) -> None:
    how = {"strategy": "group", "group_size": group} if group else {"strategy": "channel"}
    weights = {"num_bits": bits, "type": "int", "symmetric": symmetric, **how}
    half = 2 ** (bits - 1)
    # Neither axis fills its last word.
    rows, columns = 19, 48 if group else 45
    groups = columns // group if group else 1
    scale = seeded(rows, groups, seed=1).abs() + 0.01
    tensors = {
        "weight": seeded(rows, columns),
        "weight_scale": scale,
        "weight_zero_point": codes(half, rows, groups, low=-half, seed=5).to(torch.int8),
    }
    words = f"INT{bits} (packed, {f'scale per group of {group}' if group else 'scale per row'})"
    check(tmp_path, "pack-quantized", weights, compressed("pack-quantized", weights, tensors), words)


def test_groups_in_the_order_of_activation(tmp_path: Path) -> None:
    """The package no longer reads these; the list says for each column which group it is of."""
    weights = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16, "actorder": None}
    plain = {"weight": seeded(16, 64), "weight_scale": seeded(16, 4, seed=1).abs()}
    stored = compressed("pack-quantized", weights, plain)
    order = torch.arange(64).div(16, rounding_mode="floor")[torch.randperm(64)].int()
    named = {f"a.{name}": tensor for name, tensor in stored.items()}
    quantized = section("pack-quantized", {**weights, "actorder": "group"})
    save(tmp_path, quantized, {**named, "a.weight_g_idx": order})
    one = {**stored, "weight_scale": torch.ones(16, 4)}
    integers = decompressed("pack-quantized", weights, one)
    assert_widened(tmp_path, "a.weight", integers * plain["weight_scale"][:, order.long()])
    save(tmp_path, quantized, {**named, "a.weight_g_idx": torch.full((64,), -1, dtype=torch.int32)})
    assert_widened(tmp_path, "a.weight", decompressed("pack-quantized", weights, stored))


def test_nvfp4(tmp_path: Path) -> None:
    weights = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    stored = {
        "weight_packed": codes(256, 24, 32).to(torch.uint8),
        "weight_scale": (seeded(24, 4, seed=1).abs() * 100 + 1).to(torch.float8_e4m3fn),
        "weight_global_scale": torch.tensor([313.7]),
    }
    named = {f"a.{name}": tensor for name, tensor in stored.items()}
    save(tmp_path, section("nvfp4-pack-quantized", weights), named)
    reference = dequantize(
        unpack_fp4_from_uint8(stored["weight_packed"], 24, 64, torch.float32),
        stored["weight_scale"].float(),
        args=QuantizationArgs(**weights),
        global_scale=stored["weight_global_scale"],
        dtype=torch.float32,
    )
    # What the compressor returns is this, rounded.
    rounded = decompressed("nvfp4-pack-quantized", weights, stored)
    assert torch.equal(rounded, reference.to(rounded.dtype))
    info = assert_widened(tmp_path, "a.weight", reference)
    assert info.stored_as == "NVFP4 (E2M1, scale per group of 16)"


def test_mxfp4(tmp_path: Path) -> None:
    weights = {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32, "scale_dtype": "uint8"}
    stored = {
        "weight_packed": codes(256, 24, 32).to(torch.uint8),
        "weight_scale": codes(140, 24, 2, low=100).to(torch.uint8),
    }
    named = {f"a.{name}": tensor for name, tensor in stored.items()}
    save(tmp_path, section("mxfp4-pack-quantized", weights), named)
    reference = dequantize(
        unpack_fp4_from_uint8(stored["weight_packed"], 24, 64, torch.float32),
        decompress_mx_scale(stored["weight_scale"]).float(),
        args=QuantizationArgs(**{**weights, "scale_dtype": None}),
        dtype=torch.float32,
    )
    rounded = decompressed(
        "mxfp4-pack-quantized", {**weights, "scale_dtype": None}, {k: v.clone() for k, v in stored.items()}
    )
    assert torch.equal(rounded, reference.to(rounded.dtype))
    info = assert_widened(tmp_path, "a.weight", reference)
    assert info.stored_as == "MXFP4 (E2M1, scale per group of 32)"


def test_groups_of_modules(tmp_path: Path) -> None:
    """Names and expressions choose a group; the class is what is left."""
    fp8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
    int4 = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 16, "symmetric": True}
    packed = compressed("pack-quantized", int4, {"weight": seeded(8, 32), "weight_scale": torch.ones(8, 2)})
    groups = {
        "group_0": {"targets": ["Linear"], "weights": fp8, "format": "float-quantized"},
        "group_1": {"targets": ["re:.*experts.*"], "weights": int4, "format": "pack-quantized"},
        "group_2": {"targets": ["Attention"], "weights": None, "input_activations": fp8},
    }
    named = {f"mlp.experts.0.up_proj.{name}": tensor for name, tensor in packed.items()}
    weight = seeded(8, 32).to(torch.float8_e4m3fn)
    save(
        tmp_path,
        {**section("mixed-precision", fp8), "config_groups": groups},
        {**named, "q_proj.weight": weight, "q_proj.weight_scale": torch.ones(8, 1)},
    )
    reference = decompressed("pack-quantized", int4, packed)
    assert_widened(tmp_path, "mlp.experts.0.up_proj.weight", reference)
    assert_widened(tmp_path, "q_proj.weight", weight.float())

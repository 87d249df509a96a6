"""What the library makes of a checkpoint, by llmcompressor's rules for one without a model.

Scales come from the library's `calculate_qparams` and codes from its compressors; only the order in which
llmcompressor's observers call these is written here. `tests.compressed.against_llmcompressor` compares with
llmcompressor itself, which cannot be installed next to this Transformers.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.compressors.format import infer_module_format
from compressed_tensors.quantization import QuantizationArgs, QuantizationConfig, QuantizationScheme
from compressed_tensors.quantization.utils import (
    calculate_qparams,
    generate_gparam,
    maybe_pad_tensor_for_block_quant,
)
from safetensors.torch import load_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Tensors = dict[str, torch.Tensor]
# FUSED_LAYER_NAMES of llmcompressor's observers, and the parts of a delta rule that vLLM joins.
FUSED = (
    ("gate_proj", "up_proj"),
    ("q_proj", "k_proj", "v_proj"),
    ("q_a_proj", "kv_a_proj_with_mqa"),
    ("w1", "w3"),
    ("in_proj_qkv", "in_proj_z"),
)


def read(folder: Path) -> Tensors:
    """Read all tensors of a checkpoint."""
    found: Tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        found |= load_file(path)
    return found


def config(folder: Path) -> QuantizationConfig:
    """Read the section of config.json as the library does; it refuses what it does not know."""
    content = json.loads((folder / "config.json").read_text("utf-8"))["quantization_config"]
    for key in ("version", "transform_config"):
        content.pop(key)
    return QuantizationConfig.model_validate(content)


def cells(weight: torch.Tensor, args: QuantizationArgs) -> torch.Tensor:
    """Cut a matrix as llmcompressor's `flatten_for_calibration` does: the last axis shares a scale."""
    rows, columns = weight.shape
    if args.strategy != "block":
        return weight.reshape(rows, -1, args.group_size or columns)
    height, width = args.block_structure or (1, 1)
    padded: torch.Tensor = maybe_pad_tensor_for_block_quant(weight, (height, width))
    rows, columns = padded.shape
    blocks = padded.reshape(rows // height, height, columns // width, width)
    return blocks.transpose(1, 2).flatten(-2, -1)


def compress(weight: torch.Tensor, scheme: QuantizationScheme, most: torch.Tensor | None = None) -> Tensors:
    """Compress a matrix; `most` is the largest size of all that share its global scale."""
    args = scheme.weights
    assert args is not None
    cut = cells(weight, args)
    shared = None
    if args.strategy == "tensor_group":
        most = (weight.abs().max() if most is None else most).reshape(1)
        shared = generate_gparam(-most, most)
    scale, zero = calculate_qparams(cut.amin(-1), cut.amax(-1), args, global_scale=shared)
    state = {"weight": weight, "weight_scale": scale.to(weight.dtype)}
    if not args.symmetric:
        state["weight_zero_point"] = zero
    if shared is not None:
        state["weight_global_scale"] = shared
    format_ = infer_module_format(torch.nn.Linear, scheme)
    return dict(BaseCompressor.get_value_from_registry(format_.value).compress(state, scheme))


def decompress(state: Tensors, scheme: QuantizationScheme) -> torch.Tensor:
    """Read a matrix back."""
    format_ = infer_module_format(torch.nn.Linear, scheme)
    compressor = BaseCompressor.get_value_from_registry(format_.value)
    read: torch.Tensor = compressor.decompress(dict(state), scheme)["weight"]
    return read


def checkpoint(plain: Mapping[str, torch.Tensor], wanted: QuantizationConfig) -> Tensors:
    """Compress every module that has a weight, but for norms and those that are ignored."""
    found = dict(plain)
    modules = [
        name.removesuffix(".weight")
        for name in plain
        if name.endswith(".weight")
        and not name.endswith("norm.weight")
        and name.removesuffix(".weight") not in (wanted.ignore or ())
    ]
    sizes: dict[str, list[torch.Tensor]] = defaultdict(list)
    for module in modules:
        sizes[_group(module)].append(plain[f"{module}.weight"].abs().max())
    for module in modules:
        weight = found.pop(f"{module}.weight")
        most = torch.stack(sizes[_group(module)]).max()
        made = compress(weight, _scheme(module, wanted), most)
        found |= {f"{module}.{name}": each for name, each in made.items()}
    return found


def _scheme(module: str, wanted: QuantizationConfig) -> QuantizationScheme:
    """Find the group of a module: that which names it, or the one of all linear modules."""
    for scheme in wanted.config_groups.values():
        assert isinstance(scheme, QuantizationScheme)
        if {"Linear", module} & set(scheme.targets):
            return scheme
    raise AssertionError(f"no group has {module}")


def _group(module: str) -> str:
    parent, _, name = module.rpartition(".")
    fused = next((names for names in FUSED if name in names), None)
    return f"{parent}.{fused[0]}" if fused else module


def differing(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    """List the tensors that are not the same to the bit, or are in one of both alone."""
    return sorted(
        name
        for name in {*found, *wanted}
        if name not in found or name not in wanted or not _is_same(found[name], wanted[name])
    )


def _is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    return torch.equal(one.contiguous().view(torch.uint8), other.contiguous().view(torch.uint8))


def layers(names: list[str]) -> list[str]:
    """Leave out the numbers of layers and experts."""
    return sorted({re.sub(r"\.\d+\.", ".#.", name) for name in names})


def args_of(scheme: Any) -> QuantizationArgs:
    """Return the library's arguments for the weights of a scheme."""
    found: QuantizationArgs = scheme.weights
    return found

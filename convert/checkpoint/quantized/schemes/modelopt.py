"""NVIDIA's ModelOpt: FP8 with one scale, and NVFP4 with a scale for each 16 weights and one for all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.checkpoint.quantized.granularity import per
from convert.checkpoint.quantized.scheme import Scheme, unread
from convert.checkpoint.quantized.schemes.compressed_tensors import fp4_matrix
from convert.checkpoint.quantized.schemes.fp8 import CODES, fp8_matrix
from convert.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.quantized.matrix import Matrix
    from convert.checkpoint.reader import Checkpoint
    from convert.model.config import Config

METHODS = ("modelopt", "modelopt_fp4", "modelopt_mxfp8")
# `quant_algo`: the block that shares a scale, where it is neither a row nor a matrix.
_ALGORITHMS: dict[str, tuple[int, int] | None] = {
    "FP8": None,
    "FP8_PER_CHANNEL_PER_TOKEN": None,
    "FP8_PB_WO": (128, 128),
    "MXFP8": (1, 32),
    "NVFP4": (1, 16),
    "W4A16_NVFP4": (1, 16),
}
_MIXED = "MIXED_PRECISION"


@dataclass(frozen=True)
class ModelOpt(Scheme):
    """FP8 or NVFP4, or some matrices of each, which differ in the tensors that each has."""

    block: tuple[int, int] | None  # of FP8

    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find each matrix by its scale."""
        for name, scale in raw.tensors.items():
            if name.endswith(".pre_quant_scale"):
                raise unread(f"{scale.file.name}: {shown(name)}", "ModelOpt's AWQ")
            codes = raw.tensors.get(name.removesuffix("_scale")) if name.endswith(".weight_scale") else None
            if codes is None:
                continue
            if codes.dtype in CODES:
                yield fp8_matrix(codes, scale, self.block)
            else:
                common = raw.tensors.get(f"{name}_2")
                yield fp4_matrix(codes, scale, common, codes.name, None, is_divisor=False)


def read(section: Config) -> Scheme:
    """Understand the section of a config, or hf_quant_config.json."""
    algorithm = section.text("quant_algo").upper()
    found = [algorithm]
    if algorithm == _MIXED:
        layers = section.section("quantized_layers")
        found = sorted({_algorithm(layer) for layer in layers.values.values()} if layers else set())
    for each in found:
        if each not in _ALGORITHMS:
            raise unread(section.where, f"ModelOpt's {shown(each)}")
    blocks = {_ALGORITHMS[name] for name in found if "NVFP4" not in name} - {None}
    if len(blocks) > 1:
        raise unread(section.where, f"ModelOpt's {' and '.join(found)} at once")
    words = [f"{name} ({per(size)})" if (size := _ALGORITHMS[name]) else name for name in found]
    return ModelOpt(f"ModelOpt's {'; '.join(words) or 'mixed precision'}", next(iter(blocks), None))


def _algorithm(layer: Any) -> str:
    return str(layer.get("quant_algo") if isinstance(layer, dict) else layer).upper()

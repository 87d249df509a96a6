"""FP8 as Transformers, AutoFP8 and FBGEMM store it: a scale for each block, row or matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.checkpoint.quantized.granularity import block_of, grid_of, per, require_type
from convert.checkpoint.quantized.matrix import Matrix
from convert.checkpoint.quantized.numbers import Plain
from convert.checkpoint.quantized.scheme import Scheme, describe, matrix_shape, unread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.reader import Checkpoint
    from convert.checkpoint.tensor import TensorInfo
    from convert.model.config import Config

METHODS = ("fp8", "fbgemm_fp8", "mxfp8")
CODES = {"F8_E4M3": "E4M3", "F8_E5M2": "E5M2"}
# A scale's name is its matrix's with one of these; the first is multiplied with all the same.
_SUFFIXES = ("_scale_inv", "_scale")


@dataclass(frozen=True)
class Fp8(Scheme):
    """FP8 with scales, by blocks where the config has a size of them."""

    block: tuple[int, int] | None

    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find each matrix by its scale."""
        for name, scale in raw.tensors.items():
            end = next((end for end in _SUFFIXES if name.endswith(end)), None)
            codes = raw.tensors.get(name.removesuffix(end)) if end else None
            if codes is None or self.is_dropped(name):
                continue
            require_type(codes, tuple(CODES))
            yield fp8_matrix(codes, scale, self.block)


def fp8_matrix(codes: TensorInfo, scale: TensorInfo, block: tuple[int, int] | None) -> Matrix:
    """Put codes and scales together."""
    stack, shape = matrix_shape(codes)
    # A stack's scale may be one for all, or one for each.
    is_shared = stack is not None and len(scale.shape) <= 1 and scale.shape != (stack,)
    grid, words = grid_of(scale, shape, block, stack=None if is_shared else stack)
    described = describe((codes, scale), codes.name, codes.shape, f"FP8 ({CODES[codes.dtype]}, {words})")
    return Matrix(*described, Plain(codes, shape), grid)


def read(section: Config) -> Scheme:
    """Understand the section of a config."""
    if section.values.get("expert_dtype") == "fp4":
        raise unread(section.where, "FP4 in experts and FP8 elsewhere")
    block = block_of(section, "weight_block_size")
    if section.text("quant_method") == "mxfp8":
        block = block or (1, 32)
    return Fp8(f"FP8 (E4M3, {per(block)})" if block else "FP8 (E4M3)", block)

"""AWQ: integers of 4 bits packed along a matrix's outputs in an order for GPUs, in groups of inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.checkpoint.quantized.granularity import FLOATS, group_size_of, require_shape, require_type
from convert.checkpoint.quantized.matrix import Grid, Matrix
from convert.checkpoint.quantized.numbers import Across, Plain
from convert.checkpoint.quantized.scheme import Scheme, describe, matrix_shape, part, unread
from convert.errors import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.reader import Checkpoint
    from convert.checkpoint.tensor import TensorInfo
    from convert.model.config import Config

METHODS = ("awq",)
_BITS = 4
_PER_WORD = 8
# Where in a word each of its eight outputs is: they are packed as 0 2 4 6 1 3 5 7.
_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
_TABLE = tuple(map(float, range(16)))


@dataclass(frozen=True)
class Awq(Scheme):
    """Codes (inputs, outputs / 8), zero points (groups, outputs / 8) and scales (groups, outputs)."""

    group_size: int

    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find each matrix by its codes."""
        for name, codes in raw.tensors.items():
            module, _, kind = name.rpartition(".")
            if kind == "qweight":
                yield self._matrix(raw, codes, module)

    def _matrix(self, raw: Checkpoint, codes: TensorInfo, module: str) -> Matrix:
        scales, zeros = (part(raw, f"{module}.{each}", codes) for each in ("scales", "qzeros"))
        require_type(codes, ("I32",))
        require_type(zeros, ("I32",))
        require_type(scales, FLOATS)
        require_shape(codes, matrix_shape(codes)[1])
        inputs, words = codes.shape
        shape = (inputs, words * _PER_WORD)
        size = self.group_size if self.group_size > 0 else inputs
        groups = -(-inputs // size)
        require_shape(scales, (groups, shape[1]))
        require_shape(zeros, (groups, words))
        label = f"AWQ INT4 ({'scale per row' if size == inputs else f'scale per group of {size}'})"
        return Matrix(
            *describe((codes, scales, zeros), f"{module}.weight", shape[::-1], label),
            Across(codes, shape, _BITS, _TABLE, _ORDER),
            Grid(Plain(scales, (groups, shape[1])), (size, 1)),
            Grid(Across(zeros, (groups, shape[1]), _BITS, _TABLE, _ORDER), (size, 1)),
            is_turned=True,
        )


def read(section: Config) -> Scheme:
    """Understand the section of a config."""
    bits = section.size("bits", "w_bit", default=_BITS)
    layout = next((key for key in ("version", "checkpoint_format", "format") if section.has(key)), "version")
    version = section.text(layout, "gemm").lower()
    if bits != _BITS or version != "gemm":
        what = f"in {bits} bits" if bits != _BITS else f"in the layout {shown(version)}"
        raise unread(section.where, f"AWQ's {what}")
    size = group_size_of(section, "q_group_size" if section.has("q_group_size") else "group_size", 128)
    return Awq(f"AWQ INT4 (scale per {'row' if size < 0 else f'group of {size}'})", size)

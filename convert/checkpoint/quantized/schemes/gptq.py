"""GPTQ: integers packed along a matrix's inputs, in groups of inputs, maybe ordered by activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.checkpoint.quantized.granularity import FLOATS, group_size_of, require_shape, require_type
from convert.checkpoint.quantized.matrix import Grid, Matrix, Order
from convert.checkpoint.quantized.numbers import Across, Down, Plain
from convert.checkpoint.quantized.scheme import Scheme, describe, matrix_shape, part, unread
from convert.checkpoint.tensor import DAMAGED, TensorInfo
from convert.errors import Failure, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.reader import Checkpoint
    from convert.model.config import Config

METHODS = ("gptq",)
_BITS = (2, 4, 8)
# Of the two layouts, the first has every zero point less one.
_LAYOUTS = ("gptq", "gptq_v2")


@dataclass(frozen=True)
class Gptq(Scheme):
    """Codes (inputs / codes in a word, outputs), scales and zero points (groups, outputs)."""

    bits: int
    group_size: int
    is_less_one: bool

    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find each matrix by its codes."""
        for name, codes in raw.tensors.items():
            module, _, kind = name.rpartition(".")
            if kind == "qweight":
                yield self._matrix(raw, codes, module)

    def is_idle(self, raw: Checkpoint, name: str) -> bool:
        """Check for a bias of zeros, which AutoGPTQ gave every matrix."""
        module, _, kind = name.rpartition(".")
        return kind == "bias" and f"{module}.qweight" in raw.tensors and not raw.read(name).any()

    def _matrix(self, raw: Checkpoint, codes: TensorInfo, module: str) -> Matrix:
        scales, zeros = (part(raw, f"{module}.{each}", codes) for each in ("scales", "qzeros"))
        order = raw.tensors.get(f"{module}.g_idx")
        require_type(codes, ("I32",))
        require_type(zeros, ("I32",))
        require_type(scales, FLOATS)
        require_shape(codes, matrix_shape(codes)[1])
        bits = self._bits(codes, order)
        inputs, outputs = codes.shape[0] * 32 // bits, codes.shape[1]
        size = self.group_size if self.group_size > 0 else inputs
        groups = -(-inputs // size)
        require_shape(scales, (groups, outputs))
        require_shape(zeros, (groups, -(-outputs * bits // 32)))
        parts = [codes, scales, zeros]
        taken = None
        if order is not None:
            require_type(order, ("I32", "I64"))
            require_shape(order, (inputs,))
            parts.append(order)
            taken = Order(order, 0, groups)
        ones = sum(1 << place for place in range(0, 32, bits)) if self.is_less_one else 0
        table = tuple(map(float, range(1 << bits)))
        packed = Across(zeros, (groups, outputs), bits, table, increment=ones)
        return Matrix(
            *describe(parts, f"{module}.weight", (outputs, inputs), _label(bits, size, inputs)),
            Down(codes, (inputs, outputs), bits),
            Grid(Plain(scales, (groups, outputs)), (size, 1), taken),
            Grid(packed, (size, 1), taken),
            is_turned=True,
        )

    def _bits(self, codes: TensorInfo, order: TensorInfo | None) -> int:
        """Find how many bits a code has: the list of groups counts the inputs, where there is one."""
        if order is None:
            return self.bits
        inputs = order.shape[0] if len(order.shape) == 1 else 0
        bits, rest = divmod(codes.shape[0] * 32, max(1, inputs))
        if rest or bits not in _BITS:
            what = f"{codes.file.name}: {shown(codes.name)} does not hold {inputs} inputs"
            raise Failure(f"{what} in {', '.join(map(str, _BITS))} bits each", DAMAGED)
        return bits


def _label(bits: int, size: int, inputs: int) -> str:
    return f"GPTQ INT{bits} ({'scale per row' if size == inputs else f'scale per group of {size}'})"


def read(section: Config) -> Scheme:
    """Understand the section of a config."""
    bits = section.size("bits")
    layout = section.text("checkpoint_format", section.text("format", _LAYOUTS[0]))
    if layout not in _LAYOUTS or bits not in _BITS:
        what = f"in {bits} bits" if layout in _LAYOUTS else f"in the layout {shown(layout)}"
        raise unread(section.where, f"GPTQ's {what}")
    size = group_size_of(section, "group_size", -1)
    label = f"GPTQ INT{bits} (scale per {'row' if size < 0 else f'group of {size}'})"
    return Gptq(label, bits, size, layout == _LAYOUTS[0])

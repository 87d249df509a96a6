"""compressed-tensors: FP8, INT8, packed INT4 and INT8, NVFP4, MXFP4 and MXFP8, one scheme for each group."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from convert.checkpoint.quantized.granularity import (
    EXPONENTS,
    FLOATS,
    block_of,
    grid_of,
    per,
    require_shape,
    require_type,
)
from convert.checkpoint.quantized.matrix import Grid, Matrix, Order
from convert.checkpoint.quantized.numbers import FP4, Across, Down, Joined, Plain
from convert.checkpoint.quantized.scheme import Scheme, describe, matrix_shape, part, unread
from convert.checkpoint.quantized.schemes.fp8 import CODES
from convert.errors import Failure, shown
from convert.model.config import Config

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.checkpoint.reader import Checkpoint
    from convert.checkpoint.tensor import TensorInfo

METHODS = ("compressed-tensors",)
# `format` of the config or of a group, and what it is where the numbers of bits do not say it.
_FORMATS = {
    "float-quantized": "",
    "int-quantized": "",
    "naive-quantized": "",
    "pack-quantized": "",
    "nvfp4-pack-quantized": "NVFP4",
    "mxfp4-pack-quantized": "MXFP4",
    "mxfp8-quantized": "MXFP8",
    "mixed-precision": "",  # each group has its own
}
_STRATEGIES = ("tensor", "channel", "group", "tensor_group", "block")
_PACKED_BITS = (4, 8)


@dataclass(frozen=True)
class Group:
    """Modules that are quantized alike, and how."""

    targets: tuple[str, ...]
    name: str  # of the type
    bits: int
    block: tuple[int, int] | None  # that shares a scale, where that is neither a row nor a matrix
    is_symmetric: bool

    @property
    def label(self) -> str:
        """Write it in words."""
        return f"{self.name} ({per(self.block)})" if self.block else self.name


@dataclass(frozen=True)
class CompressedTensors(Scheme):
    """Matrices of one or several groups, which differ in the tensors that each has."""

    groups: tuple[Group, ...]

    def matrices(self, raw: Checkpoint) -> Iterator[Matrix]:
        """Find each matrix by its codes."""
        for name, codes in raw.tensors.items():
            module, _, kind = name.rpartition(".")
            if kind == "weight_packed":
                group = self._group(module, codes)
                yield (_fp4 if codes.dtype == "U8" else _packed)(raw, codes, module, group)
            elif kind == "weight" and f"{name}_scale" in raw.tensors:
                yield _plain(raw, codes, self._group(module, codes))

    def _group(self, module: str, codes: TensorInfo) -> Group:
        """Find the group of a module: by its name, by an expression, or by its class, which is not known."""
        for group in self.groups:
            if any(_matches(target, module) for target in group.targets):
                return group
        others = [group for group in self.groups if "Linear" in group.targets] or list(self.groups)
        if len(others) == 1:
            return others[0]
        what = f"{codes.file.name}: {shown(codes.name)} is quantized, and in no group of the config"
        raise Failure(what, "config.json is of another model, or damaged: fetch it again")


def _matches(target: str, module: str) -> bool:
    if not target.startswith("re:"):
        return target == module
    try:
        return re.match(target.removeprefix("re:"), module) is not None
    except re.error:
        return False


def _plain(raw: Checkpoint, codes: TensorInfo, group: Group) -> Matrix:
    """Read floats or integers of 8 bits."""
    require_type(codes, ("I8", *CODES))
    scale = raw.tensors[f"{codes.name}_scale"]
    stack, shape = matrix_shape(codes)
    grid, words = grid_of(scale, shape, group.block, stack=stack)
    parts, zeros = [codes, scale], None
    if not group.is_symmetric:
        zero = part(raw, f"{codes.name}_zero_point", codes)
        zeros, _ = grid_of(zero, shape, group.block, stack=stack, types=("I8", *CODES))
    if unused := raw.tensors.get(f"{codes.name}_zero_point"):
        parts.append(unused)
    kind = f"FP8 ({CODES[codes.dtype]}, {words})" if codes.dtype in CODES else f"INT{group.bits} ({words})"
    return Matrix(*describe(parts, codes.name, codes.shape, kind), Plain(codes, shape), grid, zeros)


def _packed(raw: Checkpoint, codes: TensorInfo, module: str, group: Group) -> Matrix:
    """Read integers that are packed into words."""
    require_type(codes, ("I32",))
    if group.bits not in _PACKED_BITS:
        raise unread(f"{codes.file.name}: {shown(module)}", f"packed in {group.bits} bits")
    scale = part(raw, f"{module}.weight_scale", codes)
    shape = part(raw, f"{module}.weight_shape", codes)
    require_type(shape, ("I64", "I32"))
    require_shape(shape, (2,))
    rows, columns = (int(size) for size in raw.read(shape.name))
    require_shape(codes, (rows, -(-columns * group.bits // 32)))
    grid, words = grid_of(scale, (rows, columns), group.block, types=FLOATS)
    parts = [codes, scale, shape]
    half = 1 << (group.bits - 1)
    zeros: Grid | None = None
    if not group.is_symmetric:
        zero = part(raw, f"{module}.weight_zero_point", codes)
        in_row = -(-columns // grid.block[1])
        require_type(zero, ("I32",))
        require_shape(zero, (-(-rows * group.bits // 32), in_row))
        parts.append(zero)
        zeros = Grid(Down(zero, (rows, in_row), group.bits, half), (1, grid.block[1]))
    if order := raw.tensors.get(f"{module}.weight_g_idx"):
        require_type(order, ("I32", "I64"))
        require_shape(order, (columns,))
        parts.append(order)
        if (raw.read(order.name) >= 0).all():  # minus one: not set
            taken = Order(order, 1, -(-columns // grid.block[1]))
            grid, zeros = replace(grid, order=taken), zeros and replace(zeros, order=taken)
    table = tuple(float(code - half) for code in range(1 << group.bits))
    described = describe(parts, f"{module}.weight", (rows, columns), f"INT{group.bits} (packed, {words})")
    return Matrix(*described, Across(codes, (rows, columns), group.bits, table), grid, zeros)


def _fp4(raw: Checkpoint, codes: TensorInfo, module: str, group: Group) -> Matrix:
    """Read floats of 4 bits: MXFP4, or NVFP4 with one number for all scales."""
    scale = part(raw, f"{module}.weight_scale", codes)
    common = raw.tensors.get(f"{module}.weight_global_scale")
    return fp4_matrix(codes, scale, common, f"{module}.weight", group.block, is_divisor=True)


def fp4_matrix(
    codes: TensorInfo,
    scale: TensorInfo,
    common: TensorInfo | None,
    name: str,
    block: tuple[int, int] | None,
    *,
    is_divisor: bool,
) -> Matrix:
    """Put codes and scales together; `common` is one number for all scales."""
    require_type(codes, ("U8",))
    stack, (rows, half) = matrix_shape(codes)
    shape = (rows, 2 * half)
    types = EXPONENTS if common is None else ("F8_E4M3",)
    grid, words = grid_of(scale, shape, block or (1, 32 if common is None else 16), stack=stack, types=types)
    parts = [codes, scale]
    if common is not None:
        require_type(common, FLOATS)
        if common.shape not in ((), (1,), (stack,)):
            require_shape(common, ())
        parts.append(common)
        grid = replace(grid, numbers=Joined(scale, grid.numbers.shape, grid.numbers, common, is_divisor))
    kind = "MXFP4" if common is None else "NVFP4"
    leading = () if stack is None else (stack,)
    described = describe(parts, name, (*leading, *shape), f"{kind} (E2M1, {words})")
    return Matrix(*described, Across(codes, shape, 4, tuple(FP4.tolist())), grid)


def read(section: Config) -> Scheme:
    """Understand the section of a config, or the section of one."""
    for key, fault in (("sparsity_config", "sparse"), ("transform_config", "rotated")):
        if (inner := section.section(key)) and inner.values and inner.text("format", key) != "dense":
            raise unread(section.where, f"{fault} ({shown(inner.text('format', key))})")
    if section.section("config_groups") is None and (inner := section.section("quantization_config")):
        return read(inner)
    groups = section.section("config_groups")
    if groups is None or not groups.values:
        raise Failure(f"{section.where}: it has no config_groups", "fetch config.json again")
    format_ = section.text("format", "mixed-precision")
    found = tuple(
        _read_group(group, format_) for name in groups.values if (group := _section(groups, name)) is not None
    )
    return CompressedTensors(f"{'; '.join(dict.fromkeys(each.label for each in found))}", found)


def _section(groups: Config, name: str) -> Config | None:
    group = groups.section(name)
    return group if group is not None and group.values.get("weights") is not None else None


def _read_group(group: Config, usual: str) -> Group:
    format_ = group.text("format", usual)
    if format_ not in _FORMATS:
        raise unread(group.where, f"in the format {shown(format_)}")
    weights = group.section("weights") or Config({}, group.where)
    bits = weights.size("num_bits", default=8)
    size = weights.values.get("group_size")
    group_size = size if isinstance(size, int) and size > 0 else None
    strategy = weights.text("strategy", "group" if group_size else "tensor")
    if strategy not in _STRATEGIES:
        what = f"{weights.where}: scales are by {shown(strategy)}, which is not known"
        raise Failure(what, f"known are {', '.join(_STRATEGIES)}; fetch config.json again")
    block = block_of(weights, "block_structure") if strategy == "block" else None
    if "group" in strategy:
        block = (1, weights.size("group_size"))
    targets = group.values.get("targets")
    return Group(
        tuple(map(str, targets)) if isinstance(targets, list) else (),
        _FORMATS[format_] or ("FP" if weights.text("type", "int") == "float" else "INT") + str(bits),
        bits,
        block,
        weights.flag("symmetric", default=True),
    )

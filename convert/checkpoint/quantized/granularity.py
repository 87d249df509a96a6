"""The blocks of a matrix that share a scale, as the shapes of both tensors say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.checkpoint.quantized.matrix import Grid
from convert.checkpoint.quantized.numbers import Exponents, Numbers, Plain
from convert.checkpoint.tensor import DAMAGED, TensorInfo
from convert.errors import Failure, shown

if TYPE_CHECKING:
    from convert.model.config import Config

FLOATS = ("F32", "F16", "BF16")
EXPONENTS = ("F8_E8M0", "U8")
CONFIG_DAMAGED = "the file is damaged; fetch it again from where the model came from"


def by(shape: tuple[int, ...]) -> str:
    """Write a shape."""
    return " x ".join(str(size) for size in shape) or "a single number"


def per(block: tuple[int, int]) -> str:
    """Say what shares a scale."""
    return f"scale per group of {block[1]}" if block[0] == 1 else f"scale per {by(block)}"


def block_of(section: Config, key: str) -> tuple[int, int] | None:
    """Read the rows and columns of a block, which a config may leave open."""
    match section.values.get(key):
        case None:
            return None
        case [int(rows), int(columns)] if rows > 0 and columns > 0:
            return rows, columns
        case found:
            what = f"{section.where}: {key} is {shown(str(found))}, and should be two positive numbers"
            raise Failure(what, CONFIG_DAMAGED)


def group_size_of(section: Config, key: str, default: int) -> int:
    """Read how many inputs share a scale; -1 means all of them."""
    size = section.values.get(key, default)
    if not isinstance(size, int) or size == 0 or size < -1:
        what = f"{section.where}: {key} is {shown(str(size))}, and should be -1 or a positive number"
        raise Failure(what, CONFIG_DAMAGED)
    return size


def require_type(info: TensorInfo, allowed: tuple[str, ...]) -> None:
    """Refuse a tensor whose numbers cannot be what they are used as."""
    if info.dtype not in allowed:
        what = f"{info.file.name}: {shown(info.name)} is stored as {info.dtype}"
        raise Failure(f"{what}, and should be {' or '.join(allowed)}", DAMAGED)


def require_shape(info: TensorInfo, shape: tuple[int, ...]) -> None:
    """Refuse a tensor that does not fit the others of its matrix."""
    if info.shape != shape:
        what = f"{info.file.name}: {shown(info.name)} is {by(info.shape)}, and should be {by(shape)}"
        raise Failure(what, DAMAGED)


def grid_of(
    scale: TensorInfo,
    matrix: tuple[int, int],
    block: tuple[int, int] | None,
    *,
    stack: int | None = None,
    types: tuple[str, ...] = (*FLOATS, *EXPONENTS),
) -> tuple[Grid, str]:
    """Match scales to a matrix, or to each of a stack; the second value says what shares one, in words.

    Each axis has one scale, one for each row or column, or one for each of the blocks that the config names.
    """
    require_type(scale, types)
    shape = scale.shape
    if stack is not None:
        if shape[:1] != (stack,):
            raise _misfit(scale, matrix, block)
        shape = shape[1:]
    if len(shape) == 1:
        shape = (*shape, 1)
    elif not shape:
        shape = (1, 1)
    if len(shape) != 2:
        raise _misfit(scale, matrix, block)
    sizes = tuple(
        _block_size(count, size, None if block is None else block[axis])
        for axis, (count, size) in enumerate(zip(shape, matrix, strict=True))
    )
    if 0 in sizes:
        raise _misfit(scale, matrix, block)
    numbers = _numbers(scale, (shape[0], shape[1]))
    return Grid(numbers, (sizes[0], sizes[1])), _words((sizes[0], sizes[1]), matrix)


def _numbers(scale: TensorInfo, shape: tuple[int, int]) -> Numbers:
    return (Exponents if scale.dtype in EXPONENTS else Plain)(scale, shape)


def _block_size(count: int, size: int, asked: int | None) -> int:
    """Return how many rows or columns share a scale; 0 where that does not come out."""
    if asked is not None and count == -(-size // asked):
        return asked
    if count == 1:
        return size
    return 1 if count == size else 0


def _words(sizes: tuple[int, int], matrix: tuple[int, int]) -> str:
    if sizes[0] >= matrix[0] and sizes[1] >= matrix[1]:
        return "one scale"
    if sizes == (1, matrix[1]):
        return "scale per row"
    if sizes == (matrix[0], 1):
        return "scale per column"
    return per(sizes)


def _misfit(scale: TensorInfo, matrix: tuple[int, int], block: tuple[int, int] | None) -> Failure:
    blocks = f" in blocks of {by(block)}" if block else ""
    what = f"{by(scale.shape)}, which does not fit a matrix of {by(matrix)}{blocks}"
    return Failure(f"{scale.file.name}: {shown(scale.name)} is {what}", DAMAGED)

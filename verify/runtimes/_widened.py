"""A quantized source's weights as plain ones, by the same widening that conversion uses.

Transformers has kernels for most of these forms on GPUs alone, and another package for each. That a form is
widened rightly is what conversion's own tests compare with those packages.
"""

from __future__ import annotations

from math import prod
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

from convert.store import require_space

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.checkpoint import Checkpoint, TensorInfo

ROWS_WEIGHTS = 1 << 22  # that are widened at once
NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}


def widen(checkpoint: Checkpoint, *, is_wide: Callable[[int], bool]) -> dict[str, Any]:
    """Widen all weights to float32; where they do not fit, to the source's own type in mapped files."""
    import torch

    floats = {name: info for name, info in checkpoint.tensors.items() if info.dtype in NAMES}
    count = sum(prod(info.shape) for info in floats.values())
    fits = is_wide(4 * count)
    if not fits:
        require_space(Path(), 2 * count)
    found: dict[str, Any] = {}
    for name, info in floats.items():
        if fits:
            target = torch.empty(info.shape, dtype=torch.float32)
        else:
            target = _mapped(info.shape, getattr(torch, NAMES[info.dtype]))
        _fill(target, checkpoint, info)
        found[name] = target
    return found


def _mapped(shape: tuple[int, ...], dtype: Any) -> Any:
    """Make a tensor on a file without a name, whose pages the kernel may write out and drop."""
    import torch

    with NamedTemporaryFile(dir=Path()) as file:
        return torch.from_file(file.name, shared=True, size=prod(shape), dtype=dtype).reshape(shape)


def _fill(target: Any, checkpoint: Checkpoint, info: TensorInfo) -> None:
    import torch

    is_stack = len(info.shape) == 3 and info.stored_as is not None
    for index in range(info.shape[0]) if is_stack else (None,):
        matrix = target if index is None else target[index]
        rows = matrix.shape[0] if matrix.ndim else 1
        step = max(1, ROWS_WEIGHTS * rows // max(1, matrix.numel()))
        for start in range(0, rows, step):
            stop = min(rows, start + step)
            values = torch.from_numpy(checkpoint.rows(info.name, start, stop, index=index).copy())
            part = matrix[start:stop] if matrix.ndim else matrix
            part.copy_(values.reshape(part.shape))
            checkpoint.release_rows(info.name, start, stop, index=index)

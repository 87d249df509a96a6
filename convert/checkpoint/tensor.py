"""The description of a tensor: its type, its shape, and its place in a file."""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

# Explicitly little-endian: both file formats are, whatever the machine.
# numpy has neither bfloat16 nor float8; their bits come as unsigned integers.
STORED_AS: dict[str, np.dtype[np.generic]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "F8_E8M0": np.dtype("u1"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}

MAX_RANK = 32  # numpy's own limit before version 2; checkpoints stay below 6
_MAX_SPAN_BYTES = 2**62  # numpy counts in a signed 64-bit number
DAMAGED = "the file is damaged: download it again, or save the model again"
CUT_SHORT = "the download was probably cut short: fetch the file again"


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor and the place of its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset_bytes: int
    size_bytes: int
    strides_bytes: tuple[int, ...] | None = None  # None: row-major, as safetensors always is
    stored_as: str | None = None  # what its values are widened from; None: they are as they are stored
    is_idle: bool = False  # zeros that a quantizer adds, also where the model has no place for them


def fault_of_shape(shape: object) -> str | None:
    """Return why numpy cannot hold this shape; None if it can."""
    if not isinstance(shape, list | tuple) or not all(type(size) is int and size >= 0 for size in shape):
        return "its shape is not a list of non-negative integers"
    if len(shape) > MAX_RANK:
        return f"its shape has {len(shape)} dimensions, more than {MAX_RANK}"
    # With a zero among the sizes, numpy still refuses a large one.
    if prod(size for size in shape if size) * 8 > _MAX_SPAN_BYTES:
        return "its shape is too large for any memory"
    return None

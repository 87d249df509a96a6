"""Conversion of stored floats of any width to float32, exactly."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from convert.checkpoint.tensor import STORED_AS
from convert.errors import Failure


def to_f32(array: npt.NDArray[Any], dtype: str) -> npt.NDArray[np.float32]:
    """Widen (F64: round) what `Checkpoint.read` returned; contiguous F32 is returned without a copy.

    numpy releases the GIL in each branch, and the result is the one allocation of its size.
    """
    if dtype not in _WIDENERS:
        what = f"a tensor of dtype {dtype} holds no floating-point weights"
        raise Failure(what, "config.json does not say that it is quantized: use the original model")
    if array.dtype != STORED_AS[dtype]:
        raise TypeError(f"{dtype} is stored as {STORED_AS[dtype]}, this array is {array.dtype}")
    return np.asarray(_WIDENERS[dtype](array), np.float32)  # numpy turns a 0-d result into a number


def widen_into(
    memory: npt.NDArray[np.float32], array: npt.NDArray[Any], dtype: str
) -> npt.NDArray[np.float32]:
    """Widen as `to_f32` does, into memory of the same size where the type allows it."""
    wide = memory.reshape(array.shape)
    if dtype == "BF16":
        bits = wide.view(np.uint32)
        np.copyto(bits, array)
        np.left_shift(bits, 16, out=bits)
    elif dtype == "F16":
        np.copyto(wide, array)
    else:
        return to_f32(array, dtype)
    return wide


def _round(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    try:
        with np.errstate(over="raise", under="ignore", invalid="ignore"):
            return array.astype(np.float32, order="C")
    except FloatingPointError as error:
        raise Failure("an F64 tensor holds a number that is too large for F32") from error


def _from_bf16(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Move the 16 bits to the upper half of a float32.

    Cast, then shift in place: one ufunc that casts uses numpy's small buffer, and was up to ten
    times slower with two threads.
    """
    bits = array.astype(np.uint32, order="C")
    np.left_shift(bits, 16, out=bits)
    return bits.view(np.float32)


def _f8_e4m3_table() -> npt.NDArray[np.float32]:
    """Tabulate float8_e4m3fn: 4 exponent bits (bias 7), 3 of mantissa; no infinities, one NaN per sign."""
    bits = np.arange(256)
    exponent, mantissa = bits >> 3 & 15, bits & 7
    # Subnormals count in steps of 2^(1 - 7 - 3).
    magnitude = np.where(exponent > 0, (8 + mantissa) * 2.0 ** (exponent - 10.0), mantissa * 2.0**-9)
    magnitude[(bits & 0x7F) == 0x7F] = np.nan
    return np.asarray(np.copysign(magnitude, np.where(bits & 0x80, -1.0, 1.0)), np.float32)


_F8_E4M3 = _f8_e4m3_table()
# An e5m2 is the upper half of a float16.
_F8_E5M2 = (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)

_WIDENERS: dict[str, Callable[[npt.NDArray[Any]], npt.NDArray[Any]]] = {
    "F64": _round,
    # Aligned too: C kernels get the address, and safetensors promises no alignment.
    "F32": lambda array: np.require(array, np.float32, ["C", "A"]),
    "F16": lambda array: array.astype(np.float32, order="C"),
    "BF16": _from_bf16,
    "F8_E4M3": lambda array: np.take(_F8_E4M3, array),
    "F8_E5M2": lambda array: np.take(_F8_E5M2, array),
}
# The types that hold floating-point weights.
WEIGHTS = frozenset(_WIDENERS)

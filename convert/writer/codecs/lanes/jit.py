"""How kernels are compiled: IEEE float32 throughout, in the order that is written, without the GIL."""

import os
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]
Function = TypeVar("Function", bound=Callable[..., Any])

# One block a lane. Several vectors wide, so that what one lane waits for is hidden behind the others.
LANES = 64

# Rows of weights, the importance of each column or nothing, rows of bytes; what is read may be read-only.
SIGNATURE = numba.void(
    numba.types.Array(numba.float32, 2, "C", readonly=True),
    numba.types.Array(numba.float32, 1, "C", readonly=True),
    numba.uint8[:, ::1],
)
# No fast math: a sum in another order, or a fused multiply-add, gives other bytes.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


def kernel(function: Function) -> Function:
    """Compile an `encode(source, importance, out)` now, or take it from the cache in `numba.config`."""
    # numba's cache goes by the name of the file: one name for it, whichever link led here.
    code = function.__code__.replace(co_filename=os.path.realpath(function.__code__.co_filename))
    function.__code__ = code
    compiled: Function = numba.njit(SIGNATURE, cache=True, **OPTIONS)(function)
    return compiled


def part(function: Function) -> Function:
    """Compile a function that kernels call, with them."""
    compiled: Function = numba.njit(**OPTIONS)(function)
    return compiled


@part
def nearest(value: np.float32) -> np.int32:
    """Round as ggml's nearest_int: by the bits of a sum, whatever the value."""
    bits = np.float32(value + np.float32(12582912)).view(np.int32)
    return np.int32(np.int32(bits & np.int32(0x007FFFFF)) - np.int32(0x00400000))


@part
def clamped(value: np.float32, largest: np.int32) -> np.float32:
    """Round, and clamp the integer to 0…largest."""
    return np.float32(max(np.int32(0), min(largest, nearest(value))))


@part
def to_half(value: np.float32) -> np.int32:
    """Round to float16, ties to even, as ggml_compute_fp32_to_fp16; return the bits."""
    bits = np.uint32(np.float32(value).view(np.uint32))
    scaled = np.float32(np.float32(abs(value) * np.float32(2.0**112)) * np.float32(2.0**-110))
    bias = max(np.uint32((bits << np.uint32(1)) & np.uint32(0xFF000000)), np.uint32(0x71000000))
    base = np.uint32((bias >> np.uint32(1)) + np.uint32(0x07800000)).view(np.float32)
    rounded = np.uint32(np.float32(base + scaled).view(np.uint32))
    exponent = np.uint32((rounded >> np.uint32(13)) & np.uint32(0x7C00))
    magnitude = np.uint32(exponent + np.uint32(rounded & np.uint32(0x0FFF)))
    if np.uint32(bits << np.uint32(1)) > np.uint32(0xFF000000):
        magnitude = np.uint32(0x7E00)
    return np.int32(np.uint32((bits >> np.uint32(16)) & np.uint32(0x8000)) | magnitude)


@part
def from_half(half: np.int32) -> np.float32:
    """Widen the bits of a float16."""
    magnitude = np.int32(half & np.int32(0x7FFF))
    # Exact for all: the exponent is moved, and a product brings it to where it belongs.
    wide = np.float32(np.int32(magnitude << np.int32(13)).view(np.float32) * np.float32(2.0**112))
    if magnitude >= np.int32(0x7C00):
        wide = np.int32(np.int32(magnitude << np.int32(13)) | np.int32(0x7F800000)).view(np.float32)
    return -wide if half >= np.int32(0x8000) else wide

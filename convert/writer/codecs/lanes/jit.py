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

# What is read may be read-only.
ROWS, LINE = (numba.types.Array(numba.float32, axes, "C", readonly=True) for axes in (2, 1))
NUMBERS = numba.float32[::1]  # that a kernel finds for each block
# Rows of weights, the importance of each column or nothing, rows of bytes.
SIGNATURE = numba.void(ROWS, LINE, numba.uint8[:, ::1])
# No fast math: a sum in another order, or a fused multiply-add, gives other bytes.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


def kernel_as(signature: Any) -> Callable[[Function], Function]:
    """Compile a function for these types now, or take it from the cache in `numba.config`."""

    def compile_now(function: Function) -> Function:
        # numba's cache goes by the name of the file: one name for it, whichever link led here.
        code = function.__code__.replace(co_filename=os.path.realpath(function.__code__.co_filename))
        function.__code__ = code
        compiled: Function = numba.njit(signature, cache=True, **OPTIONS)(function)
        return compiled

    return compile_now


kernel = kernel_as(SIGNATURE)  # of ggml's block types: `encode(source, importance, out)`


def part(function: Function) -> Function:
    """Compile a function that kernels call, with them."""
    compiled: Function = numba.njit(**OPTIONS)(function)
    return compiled

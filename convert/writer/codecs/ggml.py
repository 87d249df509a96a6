"""GGUF's block quantizations by libggml, the library that will read them: its bytes are the reference.

Kernels of our own take its place where they are ready, several times as fast and to the same byte.
"""

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint.gguf_file import TYPES
from convert.errors import Failure
from convert.extras import require
from convert.rounding import Grid, Rounded
from convert.writer.codecs import ggml_blocks, lanes


@dataclass(frozen=True, slots=True)
class BlockType:
    """A ggml_type: its number, weights a block, bytes a block."""

    number: int
    block_size: int
    block_bytes: int
    weights_per_s: float  # that one core quantizes, roughly; plans measure what is worth it


# Gaussian weights in rows of 2,048 on one Zen 4 core, libggml of llama-cpp-python 0.3.36.
WEIGHTS_PER_S = {
    "Q4_0": 780e6,
    "Q4_1": 890e6,
    "Q5_0": 340e6,
    "Q5_1": 410e6,
    "Q8_0": 200e6,
    "Q2_K": 15e6,
    "Q3_K": 68e6,
    "Q4_K": 13e6,
    "Q5_K": 16e6,
    "Q6_K": 31e6,
    "IQ4_NL": 3.6e6,
    "IQ4_XS": 3.6e6,
    "IQ3_S": 2.6e6,
    "IQ3_XXS": 1.7e6,
    "IQ2_S": 2.7e6,
    "IQ2_XS": 1.2e6,
    "IQ2_XXS": 1.8e6,
    "IQ1_M": 6.6e6,
    "IQ1_S": 3.5e6,
    "TQ2_0": 320e6,
    "TQ1_0": 320e6,
    "Q2_0": 290e6,
    "Q1_0": 190e6,
    "MXFP4": 160e6,
    "NVFP4": 39e6,
}


BLOCK_TYPES = {name: BlockType(*TYPES[name], per_s) for name, per_s in WEIGHTS_PER_S.items()}
# ggml_quantize_requires_imatrix: without the importance of its columns, ggml ends the process.
WEIGHED = {"IQ2_XXS", "IQ2_XS", "IQ1_S"}
# It also ends the process where one of these searches runs out of float32.
SEARCHED = {*WEIGHED, "IQ1_M", "IQ2_S", "IQ3_XXS", "IQ3_S"}
LARGEST = 65504.0  # the largest scale of a super-block
LARGEST_PRODUCT = 1e15  # of the importance and the square of a weight, whose sums are squared again


@cache
def _library() -> ctypes.CDLL:
    """Load libggml-base from the installed llama-cpp-python without importing the package."""
    folder = require("llama_cpp") / "lib"
    for name in ("libggml-base.so", "libggml-base.dylib", "ggml-base.dll"):
        if (folder / name).is_file():
            library = ctypes.CDLL(os.fspath(folder / name))
            break
    else:
        raise Failure(
            f"{folder}: llama-cpp-python came without libggml-base",
            "reinstall it: pip install --force-reinstall --no-binary :all: llama-cpp-python",
        )
    size, pointer = ctypes.c_int64, ctypes.c_void_p
    library.ggml_quantize_chunk.restype = ctypes.c_size_t
    library.ggml_quantize_chunk.argtypes = [ctypes.c_int, pointer, pointer, size, size, size, pointer]
    library.ggml_validate_row_data.restype = ctypes.c_bool
    library.ggml_validate_row_data.argtypes = [ctypes.c_int, pointer, ctypes.c_size_t]
    return library


@dataclass(frozen=True, slots=True)
class Ggml:
    """One of ggml's block types, with the importance of each column where an imatrix gives it."""

    name: str
    importance: bytes | None = None  # float32, one a column; bytes, so that codecs compare by value

    @property
    def kernel(self) -> str:
        return self.name

    @property
    def weights_per_s(self) -> float:
        return BLOCK_TYPES[self.name].weights_per_s

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """Give the importance of each column."""
        return None if self.importance is None else np.frombuffer(self.importance, np.float32)

    @property
    def needs_importance(self) -> bool:
        """Tell whether nothing can be encoded without an importance, and there is none yet."""
        return self.name in WEIGHED and self.importance is None

    def with_importance(self, columns: int) -> Self:
        """Give all columns the same importance, for a trial of a type that needs it."""
        return replace(self, importance=np.ones(columns, np.float32).tobytes())

    def row_bytes(self, columns: int) -> tuple[int, ...]:
        block_type = BLOCK_TYPES[self.name]
        return (columns // block_type.block_size * block_type.block_bytes,)

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]:
        count, columns = rows.shape
        number = BLOCK_TYPES[self.name].number
        (row_bytes,) = self.row_bytes(columns)
        out = np.empty((count, row_bytes), np.uint8)
        source = np.require(rows, np.float32, ("C", "A"))
        library = _library()
        written = out.nbytes
        if self.name in SEARCHED:
            self._require_safe(source)
        if kernel := lanes.ready.get(self.name):
            kernel(source, np.frombuffer(self.importance or b"", np.float32), out)
        else:
            written = library.ggml_quantize_chunk(
                number, source.ctypes.data, out.ctypes.data, 0, count, columns, self.importance
            )
        if written != out.nbytes or not library.ggml_validate_row_data(number, out.ctypes.data, out.nbytes):
            raise Failure(f"{self.name}: a row quantizes to something that llama.cpp would refuse")
        return (out,)

    @property
    def grid(self) -> Grid:
        """Describe the numbers that can be stored, of the types that have one scale a block."""
        return ggml_blocks.grid(self.name)

    def pack(self, rounded: Rounded) -> tuple[NDArray[np.uint8], ...]:
        """Store codes that were chosen elsewhere."""
        return (ggml_blocks.pack(self.name, rounded),)

    def decode(self, planes: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.float32]:
        """Read encoded rows again, as llama.cpp does."""
        (rows,) = planes
        out = np.empty((len(rows), columns), np.float32)
        widen = getattr(_library(), "dequantize_row_" + self.name.lower().replace("_k", "_K"))
        widen.restype, widen.argtypes = None, [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        widen(np.ascontiguousarray(rows).ctypes.data, out.ctypes.data, out.size)
        return out

    def _require_safe(self, source: NDArray[np.float32]) -> None:
        """Refuse what ggml would end the process for."""
        if self.needs_importance:
            raise Failure(
                f"{self.name} needs the importance of each column, and there is none",
                "choose another type for this tensor",
            )
        largest = float(max(source.max(initial=0), -source.min(initial=0)))
        heaviest = float(np.frombuffer(self.importance or b"", np.float32).max(initial=0))
        if largest > LARGEST or heaviest * largest**2 > LARGEST_PRODUCT:
            raise Failure(
                f"{self.name}: a weight of {largest:.3g}, or its importance, is too large for ggml's search",
                "choose another type for this tensor",
            )

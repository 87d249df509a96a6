"""Try each kind of work for a few milliseconds on every core, and see how much of it a second allows."""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.checkpoint.adapter.matrix import add_product
from convert.checkpoint.floats import to_f32
from convert.checkpoint.tensor import STORED_AS
from convert.model.forward.blas import single_threaded

if TYPE_CHECKING:
    from pathlib import Path

    from convert.writer.codecs import Codec

# Does some work and says how much.
Work = Callable[[], int]

TRIED_S, ROUNDS = 0.02, 2
FEW_WEIGHTS, MANY_WEIGHTS = 1 << 15, 1 << 19
COLUMNS, RANK = 2048, 16
SIDE = 768  # of the matrices that are multiplied
FILE_BYTES, CHUNK_BYTES = 32 << 20, 1 << 20


def per_s(work: Work, cores: int) -> float:
    """Return what a core does a second, at its best, while all cores do the same.

    By the clock of each core's thread, which stops while another program has the core: a busy machine
    gives nearly the figures of an idle one.
    """

    def timed(_: int) -> float:
        began_s, done = time.thread_time(), 0
        while (took_s := time.thread_time() - began_s) < TRIED_S:
            done += work()
        return done / took_s

    work()  # a kernel makes its tables, and memory becomes this program's, when it is called first
    with single_threaded(), ThreadPoolExecutor(cores) as pool:
        return max(sum(pool.map(timed, range(cores))) / cores for _ in range(ROUNDS))


def encoding(codec: Codec) -> Work:
    """Encode slices as large as the engine's; smaller ones where they would take long."""
    if getattr(codec, "needs_importance", False):
        codec = codec.with_importance(COLUMNS)  # type: ignore[attr-defined] # it is one of ggml's
    importance = getattr(codec, "importance", None)
    columns = len(importance) // 4 if importance else COLUMNS
    rows = _weights(MANY_WEIGHTS // columns, columns)
    few = rows[: max(1, FEW_WEIGHTS // columns)]
    codec.encode(few[:1])
    began_s = time.thread_time()
    codec.encode(few)
    is_slow = (time.thread_time() - began_s) * rows.size > TRIED_S * few.size
    chosen = few if is_slow else rows

    def work() -> int:
        codec.encode(chosen)
        return int(chosen.size)

    return work


def widening(dtype: str) -> Work:
    """Widen, and look for what is not a number, as the engine does with each slice."""
    stored = np.zeros((MANY_WEIGHTS // COLUMNS, COLUMNS), STORED_AS[dtype])

    def work() -> int:
        rows = to_f32(stored, dtype)
        rows.max(initial=0)
        rows.min(initial=0)
        return rows.size

    return work


def merging() -> Work:
    """Add an adapter's product to rows."""
    rows, inner = _weights(MANY_WEIGHTS // COLUMNS, COLUMNS), _weights(RANK, COLUMNS)
    outer = _weights(len(rows), RANK)

    def work() -> int:
        add_product(rows.copy(), outer, inner)
        return int(rows.size) * RANK

    return work


def hashing() -> Work:
    """Digest what lies in memory."""
    chunk = bytes(CHUNK_BYTES)

    def work() -> int:
        hashlib.sha256(chunk).digest()
        return len(chunk)

    return work


def products() -> Work:
    """Multiply large matrices."""
    one = _weights(SIDE, SIDE)

    def work() -> int:
        np.matmul(one, one)
        return 2 * SIDE**3

    return work


def writing(folder: Path) -> tuple[float, float]:
    """Return the bytes a second that a core copies into a file here, and that the disk takes."""
    chunk = np.random.default_rng(0).bytes(CHUNK_BYTES)
    with tempfile.TemporaryFile(dir=folder) as file:  # which has no name, and is gone when it is closed
        began_s, core_s = time.perf_counter(), time.thread_time()
        for at in range(0, FILE_BYTES, CHUNK_BYTES):
            os.pwrite(file.fileno(), chunk, at)
        core_s = time.thread_time() - core_s
        os.fsync(file.fileno())
        took_s = time.perf_counter() - began_s
    return FILE_BYTES / core_s, FILE_BYTES / took_s


def _weights(rows: int, columns: int) -> Any:
    """Draw numbers like a model's weights."""
    return np.random.default_rng(0).standard_normal((rows, columns), np.float32) * np.float32(0.02)

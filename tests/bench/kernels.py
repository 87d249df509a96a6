"""Kernels and libggml on one core, and the bytes that differ.

python -m tests.bench.kernels [--weights 64] [TYPE ...]

Speeds are millions of weights a second of CPU time, each the best of several turns with the other. Then
so many million weights of all kinds of data are compared.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tests.writer import lanes

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.writer.codecs.lanes import Encode

ROUNDS = 5
COLUMNS = 2048
SETS = ("avx512f", "avx512bw", "avx512vl", "avx2", "avx", "sse4_2", "asimd", "sve")


def main() -> None:
    """Measure, compare and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", default=lanes.KERNELS, metavar="TYPE")
    parser.add_argument("--weights", type=int, default=64, help="million weights to compare, a type")
    asked = parser.parse_args()
    import numba  # noqa: PLC0415

    print(f"{_cpu()}; numba {numba.__version__} for {numba.core.config.CPU_NAME or 'this CPU'}")
    print(f"{'type':8} {'importance':10} {'libggml':>8} {'numba':>8} {'ratio':>6}")
    for name in asked.names:
        began_s = time.process_time()
        encode = lanes.compiled(name)
        compiling_s = time.process_time() - began_s
        found, count = _compare(encode, name, asked.weights * 1_000_000)
        for weighed in (False, True):
            ours, theirs = _speeds(encode, name, weighed=weighed)
            importance = "yes" if weighed else "no"
            print(f"{name:8} {importance:10} {theirs:8.1f} {ours:8.1f} {ours / theirs:6.2f}", flush=True)
        compared = f"{found} bytes differ in {count / 1e6:.0f} million weights"
        print(f"{name:8} {compared}; {compiling_s:.1f} s to get it")


def _speeds(encode: Encode, name: str, *, weighed: bool) -> tuple[float, float]:
    random = np.random.default_rng(0)
    source = lanes.gaussian(random, (1024, COLUMNS))
    importance = lanes.IMPORTANCE["random" if weighed else "none"](random, COLUMNS)
    given = None if importance is None else importance.astype(np.float32)
    turns = [
        lambda: lanes.by_kernel(encode, name, source, given),
        lambda: lanes.by_libggml(name, source, given),
    ]
    least = [
        min(found) for found in zip(*([_seconds(turn) for turn in turns] for _ in range(ROUNDS)), strict=True)
    ]
    return source.size / least[0] / 1e6, source.size / least[1] / 1e6


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _compare(encode: Encode, name: str, weights: int) -> tuple[int, int]:
    rows = max(1, weights // (len(lanes.DATA) * len(lanes.IMPORTANCE)) // COLUMNS)
    shapes = [*lanes.shapes(name), (rows, COLUMNS)]
    differing = sum(sum(lanes.differing(encode, name, shape, seed=1).values()) for shape in shapes)
    each = sum(rows * columns for rows, columns in shapes)
    return differing, each * len(lanes.DATA) * len(lanes.IMPORTANCE)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return (
        f"{fields.get('model name', 'CPU').strip()} with {', '.join(each for each in SETS if each in flags)}"
    )


if __name__ == "__main__":
    main()

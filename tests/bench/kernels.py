"""Kernels, and libggml or numpy, on one core, and the bytes that differ.

python -m tests.bench.kernels [--weights 64] [TYPE ...]

Speeds are millions of weights a second of CPU time, each the best of several turns with the other. Then
so many million weights of all kinds of data are compared.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.writer.codecs.matmul_nbits import KERNEL
from tests.writer import lanes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 5
ROWS, COLUMNS = 256, 2048  # a slice of the engine's
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
    print(f"{'type':11} {'setting':14} {'without':>8} {'numba':>8} {'ratio':>6}")
    for name in asked.names:
        began_s = time.process_time()
        encode = lanes.compiled(name)
        compiling_s = time.process_time() - began_s
        found, count = _compare(encode, name, asked.weights * 1_000_000)
        for what, ours, theirs in _speeds(encode, name):
            print(f"{name:11} {what:14} {theirs:8.1f} {ours:8.1f} {ours / theirs:6.2f}", flush=True)
        compared = f"{found} bytes differ in {count / 1e6:.0f} million weights"
        print(f"{name:11} {compared}; {compiling_s:.1f} s to get it")


def _speeds(encode: Any, name: str) -> Iterator[tuple[str, float, float]]:
    """Give the speeds of the kernel and of its reference, by setting."""
    for what, turns in _turns(encode, name).items():
        rounds = [[_seconds(turn) for turn in turns] for _ in range(ROUNDS)]
        ours, theirs = (ROWS * COLUMNS / min(found) / 1e6 for found in zip(*rounds, strict=True))
        yield what, ours, theirs


def _turns(encode: Any, name: str) -> dict[str, list[Callable[[], object]]]:
    random = np.random.default_rng(0)
    source = lanes.gaussian(random, (ROWS, COLUMNS))
    if name == KERNEL:
        return {
            f"{codec.name} {codec.scale}": [
                partial(lanes.in_blocks, kernel, codec, source) for kernel in (encode, None)
            ]
            for codec in lanes.NBITS
        }
    weights = random.random(COLUMNS, np.float32)
    return {
        f"importance {said}": [
            partial(lanes.by_kernel, encode, name, source, given),
            partial(lanes.by_libggml, name, source, given),
        ]
        for said, given in (("no", None), ("yes", weights))
    }


def _seconds(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    work()
    return time.process_time() - began_s


def _compare(encode: Any, name: str, weights: int) -> tuple[int, int]:
    rows = max(1, weights // lanes.case_count(name) // COLUMNS)
    shapes = [*lanes.shapes(name), (rows, COLUMNS)]
    differing = sum(sum(lanes.differing(encode, name, shape, seed=1).values()) for shape in shapes)
    each = sum(rows * columns for rows, columns in shapes)
    return differing, each * lanes.case_count(name)


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    fields = dict(line.replace("\t", "").split(":", 1) for line in lines if ":" in line)
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return (
        f"{fields.get('model name', 'CPU').strip()} with {', '.join(each for each in SETS if each in flags)}"
    )


if __name__ == "__main__":
    main()

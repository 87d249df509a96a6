"""Kernels, and libggml or numpy, on the same weights: what differs, byte for byte.

python -m tests.writer.lanes CACHE [WEIGHTS] [TYPE ...] compares in a process of its own, whose environment
chooses the CPU that numba compiles for.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from convert.errors import Failure
from convert.writer.codecs import lanes
from convert.writer.codecs.ggml import BLOCK_TYPES, Ggml, _library
from convert.writer.codecs.lanes.load import cache_folder, load
from convert.writer.codecs.matmul_nbits import KERNEL, NBits
from convert.writer.codecs.plain import to_bf16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Shape = tuple[int, ...]

CACHE = Path(__file__).parents[2] / "build" / "kernels-of-tests"
KERNELS = [*(name for name in BLOCK_TYPES if lanes.has_kernel(name)), KERNEL]
LARGEST = float(np.finfo(np.float32).max)
NBITS = [
    NBits(bits, block_size, is_symmetric, scale)
    for bits in (4, 8)
    for block_size in (16, 32, 128)
    for is_symmetric in (True, False)
    for scale in ("F32", "F16")
]
# One row, rows that do not fill the lanes, and more super-blocks than lanes.
SHAPES: list[Shape] = [(1, 256), (3, 512), (5, 1280), (65, 256), (9, 2048), (70, 768)]


def shapes(name: str) -> list[Shape]:
    """List shapes to compare in; where rows may be shorter than a super-block, odd ones are among them."""
    if name == KERNEL:
        return [*SHAPES, (1, 1), (7, 33), (33, 280), (5, 2047)]
    size = BLOCK_TYPES[name].block_size
    return [*SHAPES] if size == 256 else [*SHAPES, (1, size), (3, 3 * size), (33, 7 * size)]


def gaussian(random: np.random.Generator, shape: Shape) -> Floats:
    return random.standard_normal(shape, dtype=np.float32)


def _sparse(random: np.random.Generator, shape: Shape) -> NDArray[Any]:
    return np.where(random.random(shape) < 0.1, gaussian(random, shape), 0)


def _single(random: np.random.Generator, shape: Shape) -> Floats:
    made = np.zeros(shape, np.float32)
    made[:, random.integers(shape[1])] = gaussian(random, shape[:1])
    return made


def _any_exponent(random: np.random.Generator, shape: Shape) -> Floats:
    return gaussian(random, shape) * np.exp2(random.integers(-140, 100, shape)).astype(np.float32)


def _rows_of_any_size(random: np.random.Generator, shape: Shape) -> Floats:
    return gaussian(random, shape) * np.exp2(random.integers(-140, 100, (shape[0], 1))).astype(np.float32)


DATA: dict[str, Callable[[np.random.Generator, Shape], NDArray[Any]]] = {
    "gaussian": gaussian,
    "small": lambda random, shape: gaussian(random, shape) * np.float32(0.02),
    "bf16": lambda random, shape: (to_bf16(gaussian(random, shape)).astype(np.uint32) << 16).view(np.float32),
    "heavy-tailed": lambda random, shape: random.standard_t(2, shape),
    "outliers": lambda random, shape: gaussian(random, shape) * np.where(random.random(shape) < 0.01, 50, 1),
    "positive": lambda random, shape: abs(gaussian(random, shape)) + 1,
    "negative": lambda random, shape: -abs(gaussian(random, shape)) - 1,
    "uniform": lambda random, shape: random.random(shape) - 0.5,
    "on a grid": lambda random, shape: random.integers(-8, 8, shape) / 8,
    "sparse": _sparse,
    "a single weight": _single,
    "zeros": lambda _, shape: np.zeros(shape),
    "constant": lambda random, shape: np.broadcast_to(gaussian(random, (shape[0], 1)), shape),
    "two values": lambda random, shape: np.where(random.random(shape) < 0.5, -0.25, 1),
    "denormal": lambda random, shape: gaussian(random, shape) * np.float32(1e-40),
    "tiny": lambda random, shape: gaussian(random, shape) * np.float32(1e-20),
    "half-precision underflow": lambda random, shape: gaussian(random, shape) * np.float32(3e-7),
    "any exponent": _any_exponent,
    "rows of any size": _rows_of_any_size,
    "huge": lambda random, shape: gaussian(random, shape) * np.float32(1e30),
    "near the largest": lambda random, shape: (random.random(shape) * 2 - 1) * LARGEST,
}
# Which of two zeros is the lowest weight of a block shows in the sign of its scale.
SIGNED_ZEROS: dict[str, Callable[[np.random.Generator, Shape], NDArray[Any]]] = {
    "zeros of both signs": lambda random, shape: np.copysign(0, random.random(shape) - 0.5),
    "mostly zeros": lambda random, shape: np.copysign(
        random.random(shape) < 0.02, random.random(shape) - 0.5
    ),
}
IMPORTANCE: dict[str, Callable[[np.random.Generator, int], NDArray[np.float64] | None]] = {
    "none": lambda _random, _columns: None,
    "ones": lambda _, columns: np.ones(columns),
    "random": lambda random, columns: random.random(columns) + 0.01,
    "with zeros": lambda random, columns: random.random(columns) * (random.random(columns) < 0.5),
    "heavy-tailed": lambda random, columns: random.standard_t(1, columns) ** 2,
}


def by_libggml(name: str, source: Floats, importance: Floats | None) -> NDArray[np.uint8]:
    """Encode by libggml, also what llama.cpp would refuse."""
    out = np.zeros((len(source), *Ggml(name).row_bytes(source.shape[1])), np.uint8)
    given = None if importance is None else importance.ctypes.data
    number = BLOCK_TYPES[name].number
    _library().ggml_quantize_chunk(number, source.ctypes.data, out.ctypes.data, 0, *source.shape, given)
    return out


def by_kernel(encode: Any, name: str, source: Floats, importance: Floats | None) -> NDArray[np.uint8]:
    """Encode by a kernel of one of ggml's block types."""
    out = np.zeros((len(source), *Ggml(name).row_bytes(source.shape[1])), np.uint8)
    encode(source, np.empty(0, np.float32) if importance is None else importance, out)
    return out


def in_blocks(kernel: Any, codec: NBits, source: Floats) -> tuple[NDArray[np.uint8], ...]:
    """Encode by numpy, or by a kernel if one is given; nothing if the scales cannot be stored."""
    before = lanes.ready.pop(KERNEL, None)
    lanes.ready.update({KERNEL: kernel} if kernel else {})
    try:
        with np.errstate(all="ignore"):
            return codec.encode(source)
    except Failure:
        return ()
    finally:
        lanes.ready.pop(KERNEL, None)
        lanes.ready.update({KERNEL: before} if before else {})


def compiled(name: str, cache: Path = CACHE) -> Any:
    """Take a kernel from the cache, or compile it."""
    return load(name, cache_folder(cache))


def sources(
    data: dict[str, Callable[[np.random.Generator, Shape], NDArray[Any]]], shape: Shape, seed: int
) -> Iterator[tuple[str, np.random.Generator, Floats]]:
    """Make all kinds of data."""
    for kind, make in data.items():
        random = np.random.default_rng([seed, *shape])
        with np.errstate(all="ignore"):
            yield kind, random, np.ascontiguousarray(make(random, shape), np.float32)


def cases(shape: Shape, seed: int = 0) -> Iterator[tuple[str, Floats, Floats | None]]:
    """Make all data with all kinds of importance."""
    for kind, random, source in sources(DATA, shape, seed):
        for weight, weigh in IMPORTANCE.items():
            importance = weigh(random, shape[1])
            yield (
                f"{kind}, importance {weight}",
                source,
                None if importance is None else importance.astype("f4"),
            )


def case_count(name: str) -> int:
    """Count how often the weights of a shape are compared."""
    return len(DATA | SIGNED_ZEROS) * len(NBITS) if name == KERNEL else len(DATA) * len(IMPORTANCE)


def differing(encode: Any, name: str, shape: Shape, seed: int = 0) -> dict[str, int]:
    """Count the bytes that differ, by kind of data; empty as it should be."""
    if name == KERNEL:
        return _differing_in_blocks(encode, shape, seed)
    found: dict[str, int] = {}
    for what, source, importance in cases(shape, seed):
        ours = by_kernel(encode, name, source, importance)
        if count := int((ours != by_libggml(name, source, importance)).sum()):
            found[what] = count
    return found


def _differing_in_blocks(kernel: Any, shape: Shape, seed: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for what, _, source in sources(DATA | SIGNED_ZEROS, shape, seed):
        for codec in NBITS:
            ours, theirs = in_blocks(kernel, codec, source), in_blocks(None, codec, source)
            count = sum(int((our != their).sum()) for our, their in zip(ours, theirs, strict=True))
            if count:
                found[f"{what}, {codec}"] = count
    return found


def main(cache: str, weights: str = "100000", *names: str) -> None:
    """Compare, print what differs, and fail if anything does."""
    for name in names or KERNELS:
        encode = compiled(name, Path(cache))
        found: dict[str, int] = {}
        for shape in (*shapes(name), (max(1, int(weights) // 2048), 2048)):
            found |= {
                f"{name} {shape}: {what}": count for what, count in differing(encode, name, shape).items()
            }
        for what, count in found.items():
            print(f"{what}: {count} bytes differ")
        if found:
            sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What ggml weighs the numbers of a block with, and sums in its order."""

from convert.writer.codecs.lanes.jit import part
from convert.writer.codecs.lanes.memory import load, store
from convert.writer.codecs.lanes.vector import WIDTH, Scratch, Vector, floats, square_root


@part
def square_sum(scratch: Scratch, at: int, count: int) -> Vector:
    """Add the squares of numbers up in their order."""
    result = floats(0.0)
    for i in range(count):
        x = load(scratch, at + i * WIDTH)
        result = result + x * x
    return result


@part
def weigh(scratch: Scratch, at: int, weights_at: int, count: int, variance: Vector) -> None:
    """Turn importance into weights, as ggml does: importance * sqrt(variance + x * x)."""
    for i in range(count):
        x, importance = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        store(scratch, weights_at + i * WIDTH, importance * square_root(variance + x * x))


@part
def weigh_by_square(scratch: Scratch, at: int, weights_at: int, count: int) -> None:
    """Weigh numbers by their squares, where there is no importance matrix."""
    for i in range(count):
        x = load(scratch, at + i * WIDTH)
        store(scratch, weights_at + i * WIDTH, x * x)


@part
def total(scratch: Scratch, at: int, count: int) -> Vector:
    """Add numbers up in their order."""
    result = floats(0.0)
    for i in range(count):
        result = result + load(scratch, at + i * WIDTH)
    return result

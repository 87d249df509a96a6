"""The search for the scale of symmetric blocks that Q3_K and Q6_K share: ggml's make_qx_quants."""

import numpy as np

from convert.writer.codecs.lanes.jit import part
from convert.writer.codecs.lanes.memory import load, store
from convert.writer.codecs.lanes.rounding import clamp, nearest, whole
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    any_lane,
    floats,
    larger,
    select,
    smaller,
    to_float,
)

SMALLEST = np.float32(1e-15)  # GROUP_MAX_EPS: a block whose numbers are all smaller is zero
_TENTH = np.float32(0.1)


@part
def extreme(tile: Scratch, at: int, count: int) -> tuple[Vector, Vector]:
    """Find the number that is farthest from zero, the first of equals, and how far it is."""
    highest, value = floats(0.0), floats(0.0)
    for i in range(count):
        x = load(tile, at + i * WIDTH)
        distance = abs(x)
        is_farther = distance > highest
        highest = select(is_farther, distance, highest)
        value = select(is_farther, x, value)
    return value, highest


@part
def search(tile: Scratch, at: int, weights_at: int, steps: int) -> tuple[Vector, Vector, Vector]:
    """Find the scale of 16 numbers with integers from -steps to steps - 1.

    Also return the inverse scale that gives the integers, and where all numbers count as zero.
    """
    low, high = np.float32(-steps), np.float32(steps - 1)
    extreme_value, highest = extreme(tile, at, 16)
    inverse = floats(low) / extreme_value
    sum_lx, sum_l2 = floats(0.0), floats(0.0)
    for i in range(16):
        x, weight = load(tile, at + i * WIDTH), load(tile, weights_at + i * WIDTH)
        level = to_float(clamp(nearest(inverse * x), -steps, steps - 1))
        weighted = weight * x
        store(tile, weights_at + (16 + i) * WIDTH, weighted)
        sum_lx = sum_lx + weighted * level
        sum_l2 = sum_l2 + weight * level * level
    scale = select(sum_l2 != 0.0, sum_lx / sum_l2, 0.0)
    best = scale * sum_lx
    best_inverse = inverse
    for step in range(-9, 10):
        if step == 0:
            continue
        inverse = floats(-(np.float32(steps) + _TENTH * np.float32(step))) / extreme_value
        sum_lx, sum_l2 = floats(0.0), floats(0.0)
        if step < 5:
            for i in range(16):
                x, weight = load(tile, at + i * WIDTH), load(tile, weights_at + i * WIDTH)
                level = smaller(whole(inverse * x), high)
                sum_lx = sum_lx + load(tile, weights_at + (16 + i) * WIDTH) * level
                sum_l2 = sum_l2 + weight * level * level
        else:
            for i in range(16):
                x, weight = load(tile, at + i * WIDTH), load(tile, weights_at + i * WIDTH)
                level = larger(smaller(whole(inverse * x), high), low)
                sum_lx = sum_lx + load(tile, weights_at + (16 + i) * WIDTH) * level
                sum_l2 = sum_l2 + weight * level * level
        is_better = (sum_l2 > 0.0) & (sum_lx * sum_lx > best * sum_l2)
        if any_lane(is_better):
            scale = select(is_better, sum_lx / sum_l2, scale)
            best = select(is_better, scale * sum_lx, best)
            best_inverse = select(is_better, inverse, best_inverse)
    is_zero = highest < SMALLEST
    return select(is_zero, 0.0, scale), best_inverse, is_zero

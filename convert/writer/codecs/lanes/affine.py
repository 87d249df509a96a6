"""The search for a scale and a minimum that Q2_K, Q4_K and Q5_K share.

It is make_qkx2_quants, or make_qkx3_quants with an importance matrix, and make_qp_quants for their scales.
"""

import numpy as np

from convert.writer.codecs.lanes.jit import part
from convert.writer.codecs.lanes.memory import load, store
from convert.writer.codecs.lanes.rounding import level_of, nearest
from convert.writer.codecs.lanes.symmetric import SMALLEST
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    any_lane,
    bits_of,
    floats,
    ints,
    larger,
    select,
    smaller,
    to_float,
)


@part
def _levels(
    scratch: Scratch, at: int, weights_at: int, count: int, top: int, inverse: Vector, least: Vector
) -> tuple[Vector, Vector, Vector]:
    """Round the numbers to levels, keep these after the weights, and sum them and their products up."""
    sum_l, sum_l2, sum_xl = floats(0.0), floats(0.0), floats(0.0)
    for i in range(count):
        x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        level = level_of(inverse * (x - least), 0, top)
        store(scratch, weights_at + (count + i) * WIDTH, level)
        weighted = weight * level
        sum_l = sum_l + weighted
        sum_l2 = sum_l2 + weighted * level
        sum_xl = sum_xl + weighted * x
    return sum_l, sum_l2, sum_xl


@part
def _error(
    scratch: Scratch, at: int, weights_at: int, count: int, scale: Vector, least: Vector, is_absolute: bool
) -> Vector:
    """Weigh and sum up what the kept levels are away from the numbers."""
    error = floats(0.0)
    for i in range(count):
        x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        away = scale * load(scratch, weights_at + (count + i) * WIDTH) + least - x
        away = abs(away) if is_absolute else away * away
        error = error + weight * away
    return error


@part
def search(
    scratch: Scratch,
    at: int,
    weights_at: int,
    count: int,
    top: int,
    first: float,
    step: float,
    steps: int,
    is_absolute: bool,
) -> tuple[Vector, Vector, Vector, Vector, Vector]:
    """Find a scale and a minimum for levels from zero to top.

    Also return the inverse scale and the minimum that gave the levels, which may differ from the result, and
    where all numbers are the same.
    """
    x, weight = load(scratch, at), load(scratch, weights_at)
    least, most = x, x
    sum_w, sum_x = weight, weight * x
    for i in range(1, count):
        x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        least, most = smaller(x, least), larger(x, most)
        sum_w = sum_w + weight
        sum_x = sum_x + weight * x
    least = select(least > 0.0, 0.0, least)
    is_flat = most == least
    scale, best, best_inverse, best_offset, flat_least = least, least, least, least, least
    for number in range(-1, steps + 1):
        reach = np.float32(top)
        if number >= 0:
            reach = np.float32(first) + np.float32(step) * np.float32(number) + reach
        inverse = floats(reach) / (most - least)
        sum_l, sum_l2, sum_xl = _levels(scratch, at, weights_at, count, top, inverse, least)
        divisor = sum_w * sum_l2 - sum_l * sum_l
        this_scale = (sum_w * sum_xl - sum_x * sum_l) / divisor
        this_least = (sum_l2 * sum_x - sum_l * sum_xl) / divisor
        is_above = this_least > 0.0
        this_scale = select(is_above, sum_xl / sum_l2, this_scale)
        this_least = select(is_above, 0.0, this_least)
        if number < 0:  # whatever it is, it is what the others have to beat
            this_scale, this_least = floats(1.0) / inverse, least
        error = _error(scratch, at, weights_at, count, this_scale, this_least, is_absolute)
        is_better = (ints(number) < 0) | ((divisor > 0.0) & (error < best))
        best = select(is_better, error, best)
        best_inverse = select(is_better, inverse, best_inverse)
        best_offset = select(is_better, least, best_offset)
        scale = select(is_better, this_scale, scale)
        least = select(is_better, this_least, least)
    return (
        select(is_flat, 0.0, scale),
        -select(is_flat, flat_least, least),
        best_inverse,
        best_offset,
        is_flat,
    )


@part
def fit_positive(scratch: Scratch, at: int, weights_at: int, count: int, top: int, codes_at: int) -> Vector:
    """Find a scale for numbers of a super-block's blocks, and their codes as bytes: make_qp_quants."""
    most = floats(0.0)
    for i in range(count):
        most = larger(most, load(scratch, at + i * WIDTH))
    is_zero = most < SMALLEST
    inverse = floats(np.float32(top)) / most
    scale = floats(1.0) / inverse
    best = floats(0.0)
    for i in range(count):
        x = load(scratch, at + i * WIDTH)
        away = x - scale * to_float(nearest(inverse * x) & 0xFF)
        best = best + load(scratch, weights_at + i * WIDTH) * away * away
    for number in range(-4, 5):
        if number == 0:
            continue
        this_inverse = floats(np.float32(0.1) * np.float32(number) + np.float32(top)) / most
        this_scale = floats(1.0) / this_inverse
        error = floats(0.0)
        for i in range(count):
            x = load(scratch, at + i * WIDTH)
            away = x - this_scale * to_float(smaller(nearest(this_inverse * x), top))
            error = error + load(scratch, weights_at + i * WIDTH) * away * away
        is_better = error < best
        best = select(is_better, error, best)
        inverse = select(is_better, this_inverse, inverse)
    sum_lx, sum_l2 = floats(0.0), floats(0.0)
    for i in range(count):
        x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        level = smaller(nearest(inverse * x), top)
        store(scratch, codes_at + i * WIDTH, level & 0xFF)
        sum_lx = sum_lx + weight * x * to_float(level)
        sum_l2 = sum_l2 + weight * to_float(level) * to_float(level)
    for _ in range(5):
        was_changed = ints(0)
        for i in range(count):
            x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
            code = bits_of(load(scratch, codes_at + i * WIDTH))
            level = to_float(code)
            rest_lx = sum_lx - weight * x * level
            rest_l2 = sum_l2 - weight * level * level
            new_code = smaller(nearest(x * rest_l2 / rest_lx), top)
            new = to_float(new_code)
            new_lx = rest_lx + weight * x * new
            new_l2 = rest_l2 + weight * new * new
            is_better = (rest_lx > 0.0) & (rest_l2 > 0.0) & (new != level)
            is_better = is_better & (new_lx * new_lx * sum_l2 > sum_lx * sum_lx * new_l2)
            store(scratch, codes_at + i * WIDTH, select(is_better, new_code & 0xFF, code))
            sum_lx, sum_l2 = select(is_better, new_lx, sum_lx), select(is_better, new_l2, sum_l2)
            was_changed = select(is_better, 1, was_changed)
        if not any_lane(was_changed > 0):
            break
    for i in range(count):
        code = bits_of(load(scratch, codes_at + i * WIDTH))
        store(scratch, codes_at + i * WIDTH, select(is_zero, 0, code))
    return select(is_zero | ~(sum_l2 > 0.0), 0.0, sum_lx / sum_l2)

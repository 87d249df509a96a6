"""Rounding to any grid: the search for scales, and GPTQ's compensation within a panel of columns.

Numbers are computed in the order of `convert.rounding`'s, so the bytes are the same.
"""

from typing import Any, NamedTuple

import numba
import numpy as np

from convert.rounding.grid import FREE, LANES, LEVELS
from convert.writer.codecs.lanes.jit import LINE, ROWS, Bytes, Floats, kernel_as, part
from convert.writer.codecs.lanes.memory import load, store
from convert.writer.codecs.lanes.rounding import whole
from convert.writer.codecs.lanes.vector import WIDTH, Vector, floats, ints, larger, select, smaller, to_int

if WIDTH != LANES:
    raise ImportError("rows are rounded in numbers that fill no lanes")

SOME = numba.float32[:, ::1]


@part
def code_of(value: Vector, scale: Vector, shift: Vector, levels: Floats, kind: int, top: Any) -> Vector:
    """Find the nearest code, as a float."""
    if kind == FREE:
        value = value - shift
    ratio = select(scale != 0.0, value / scale, 0.0)
    if kind == LEVELS:
        code = floats(0.0)
        for i in range(len(levels) - 1):
            code = select(ratio > (levels[i + 1] + levels[i]) / np.float32(2), np.float32(i + 1), code)
        return code
    if kind != FREE:
        ratio = ratio + shift
    return whole(smaller(larger(ratio, 0.0), top))


@part
def meant_by(code: Vector, scale: Vector, shift: Vector, levels: Floats, kind: int) -> Vector:
    """Return the weight that a code means."""
    if kind == FREE:
        return code * scale + shift
    if kind == LEVELS:
        level = floats(levels[0])
        for i in range(1, len(levels)):
            level = select(code == np.float32(i), levels[i], level)
        return level * scale
    return (code - shift) * scale


@kernel_as(numba.void(ROWS, ROWS, SOME, SOME, LINE, numba.intp, numba.float32, numba.uint8[::1]))
def search(
    blocks: Floats,
    weights: Floats,
    scales: Floats,
    shifts: Floats,
    levels: Floats,
    kind: int,
    top: Any,
    best: Bytes,
) -> None:
    """Find by which of some scales each block loses least; of equal ones, the first."""
    count, size = blocks.shape
    groups, lanes = len(weights), scales.shape[1]
    scratch = np.empty((2 * size + 1) * WIDTH, np.float32)
    found = scratch.view(np.int32)
    for first in range(0, lanes, WIDTH):
        for lane in range(WIDTH):
            block = min(first + lane, count - 1)
            for i in range(size):
                scratch[i * WIDTH + lane] = blocks[block, i]
                scratch[(size + i) * WIDTH + lane] = weights[block % groups, i]
        least, chosen = floats(np.inf), ints(0)
        for number in range(len(scales)):
            scale, shift = load(scales, number * lanes + first), load(shifts, number * lanes + first)
            error = floats(0.0)
            for i in range(size):
                value = load(scratch, i * WIDTH)
                code = code_of(value, scale, shift, levels, kind, top)
                lost = value - meant_by(code, scale, shift, levels, kind)
                error = error + lost * lost * load(scratch, (size + i) * WIDTH)
            is_better = error < least
            least, chosen = select(is_better, error, least), select(is_better, number, chosen)
        store(scratch, 2 * size * WIDTH, chosen)
        for lane in range(WIDTH):
            best[first + lane] = found[2 * size * WIDTH + lane]


@kernel_as(
    numba.void(SOME, ROWS, ROWS, ROWS, ROWS, LINE, numba.intp, numba.float32, numba.uint8[:, ::1], SOME)
)
def compensate(
    target: Floats,
    wanted: Floats,
    scales: Floats,
    shifts: Floats,
    corner: Floats,
    levels: Floats,
    kind: int,
    top: Any,
    codes: Bytes,
    lost: Floats,
) -> None:
    """Round the columns of a panel from the last to the first, each to make up for those after it."""
    width, rows = target.shape
    scratch = np.empty((width + 1) * WIDTH, np.float32)  # whose rows are near each other, unlike target's
    found = scratch.view(np.int32)
    for first in range(0, rows, WIDTH):
        for at in range(width):
            store(scratch, at * WIDTH, load(target, at * rows + first))
        for at in range(width - 1, -1, -1):
            place = at * rows + first
            scale, shift = load(scales, place), load(shifts, place)
            code = code_of(load(scratch, at * WIDTH), scale, shift, levels, kind, top)
            store(scratch, width * WIDTH, to_int(code))
            for lane in range(WIDTH):
                codes[at, first + lane] = found[width * WIDTH + lane]
            error = load(wanted, place) - meant_by(code, scale, shift, levels, kind)
            store(lost, place, error)
            for before in range(at):
                kept = load(scratch, before * WIDTH)
                store(scratch, before * WIDTH, kept + corner[at, before] * error)


class Passes(NamedTuple):
    """What rounding calls."""

    search: Any
    compensate: Any


encode = Passes(search, compensate)

"""What IQ4_XS and IQ4_NL share: sixteen values that are not evenly spaced, and the search for a scale.

libggml looks the nearest value up for each number in each of 16 trials. Fifteen of them differ by so little
(120 to 134 steps for the number that is farthest from zero) that a number has at most two values in all of
them: the nearest ones of the first and the last trial. One comparison then says which.
"""

import numpy as np

from convert.writer.codecs.lanes.jit import part
from convert.writer.codecs.lanes.memory import load, store
from convert.writer.codecs.lanes.symmetric import SMALLEST, extreme
from convert.writer.codecs.lanes.vector import (
    WIDTH,
    Scratch,
    Vector,
    any_lane,
    floats,
    ints,
    larger,
    select,
    smaller,
)

Three = tuple[Vector, Vector, Vector]

_VALUES = np.array(
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32
)  # kvalues_iq4nl
_MIDDLES = (_VALUES[1:] + _VALUES[:-1]) / 2  # exact; best_index_int8 takes the higher value from here on
_TRIALS = 7
SCRATCH = 32 * 7 * WIDTH  # floats that the search of a block needs


@part
def nearest_value(number: Vector) -> Vector:
    """Find the value that best_index_int8 takes for a number."""
    value = floats(_VALUES[0])
    for i in range(15):
        value = select(number < _MIDDLES[i], value, _VALUES[i + 1])
    return value


@part
def nearest_code(number: Vector) -> Vector:
    """Find the index that best_index_int8 gives for a number."""
    code = ints(0)
    for i in range(15):
        code = select(number < _MIDDLES[i], code, i + 1)
    return code


@part
def _prepare(scratch: Scratch, at: int, weights_at: int, first: Vector, last: Vector) -> None:
    """Find what each number adds to the sums of a trial, below the middle of its two values and above."""
    for i in range(32):
        x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        one, other = nearest_value(first * x), nearest_value(last * x)
        low, high = smaller(one, other), larger(one, other)
        terms = weights_at + (32 + 5 * i) * WIDTH
        low_weighted, high_weighted = weight * low, weight * high
        store(scratch, terms, (low + high) * 0.5)
        store(scratch, terms + WIDTH, low_weighted * x)
        store(scratch, terms + 2 * WIDTH, high_weighted * x)
        store(scratch, terms + 3 * WIDTH, low_weighted * low)
        store(scratch, terms + 4 * WIDTH, high_weighted * high)


@part
def _try_three(
    scratch: Scratch, at: int, weights_at: int, one: Vector, two: Vector, three: Vector
) -> tuple[tuple[Vector, Vector, Vector], tuple[Vector, Vector, Vector]]:
    """Sum three trials up at a time, so that what was prepared is read once for them."""
    qx_1 = qx_2 = qx_3 = q2_1 = q2_2 = q2_3 = floats(0.0)
    for i in range(32):
        x = load(scratch, at + i * WIDTH)
        terms = weights_at + (32 + 5 * i) * WIDTH
        middle = load(scratch, terms)
        low_qx, high_qx = load(scratch, terms + WIDTH), load(scratch, terms + 2 * WIDTH)
        low_q2, high_q2 = load(scratch, terms + 3 * WIDTH), load(scratch, terms + 4 * WIDTH)
        is_low_1, is_low_2, is_low_3 = one * x < middle, two * x < middle, three * x < middle
        qx_1, q2_1 = qx_1 + select(is_low_1, low_qx, high_qx), q2_1 + select(is_low_1, low_q2, high_q2)
        qx_2, q2_2 = qx_2 + select(is_low_2, low_qx, high_qx), q2_2 + select(is_low_2, low_q2, high_q2)
        qx_3, q2_3 = qx_3 + select(is_low_3, low_qx, high_qx), q2_3 + select(is_low_3, low_q2, high_q2)
    return (qx_1, qx_2, qx_3), (q2_1, q2_2, q2_3)


@part
def search(scratch: Scratch, at: int, weights_at: int) -> Vector:
    """Find the scale of 32 numbers: quantize_row_iq4_nl_impl with ntry = 7."""
    extreme_value, highest = extreme(scratch, at, 32)
    inverse = floats(1.0) / (-extreme_value / _VALUES[0])
    sum_qx, sum_q2 = floats(0.0), floats(0.0)
    for i in range(32):
        x, weight = load(scratch, at + i * WIDTH), load(scratch, weights_at + i * WIDTH)
        value = nearest_value(inverse * x)
        weighted = weight * value
        sum_qx = sum_qx + weighted * x
        sum_q2 = sum_q2 + weighted * value
    scale = select(sum_q2 > 0.0, sum_qx / sum_q2, 0.0)
    best = scale * sum_qx
    first, last = floats(_VALUES[0] - _TRIALS) / extreme_value, floats(_VALUES[0] + _TRIALS) / extreme_value
    _prepare(scratch, at, weights_at, first, last)
    for trial in range(-_TRIALS, _TRIALS + 1, 3):
        one = floats(_VALUES[0] + np.float32(trial)) / extreme_value
        two = floats(_VALUES[0] + np.float32(trial + 1)) / extreme_value
        three = floats(_VALUES[0] + np.float32(trial + 2)) / extreme_value
        sums_qx, sums_q2 = _try_three(scratch, at, weights_at, one, two, three)
        for i in range(3):
            is_better = (sums_q2[i] > 0.0) & (sums_qx[i] * sums_qx[i] > best * sums_q2[i])
            if any_lane(is_better):
                scale = select(is_better, sums_qx[i] / sums_q2[i], scale)
                best = select(is_better, scale * sums_qx[i], best)
    return select(highest < SMALLEST, 0.0, scale)


@part
def inverse_or_zero(scale: Vector) -> Vector:
    """Invert a scale, or leave it at zero."""
    return select(scale != 0.0, floats(1.0) / scale, 0.0)


@part
def pack(scratch: Scratch, at: int, inverse: Vector, word_number: int) -> Vector:
    """Quantize eight numbers of a block of 32, the second four 16 after the first, to four bytes."""
    word = ints(0)
    for byte in range(4):
        place = at + (word_number * 4 + byte) * WIDTH
        low = nearest_code(inverse * load(scratch, place))
        high = nearest_code(inverse * load(scratch, place + 16 * WIDTH))
        word = word | ((low | (high << 4)) << (8 * byte))
    return word

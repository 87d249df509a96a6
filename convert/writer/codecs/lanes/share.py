"""ggml's search for one scale of a super-block's scales or minimums, a super-block a lane: make_qp_quants."""

import numpy as np

from convert.writer.codecs.lanes.jit import LANES, Floats, nearest, part
from convert.writer.codecs.lanes.search import END as SHARE

# Rows of the scratch: up to 16 numbers, what they count, their codes.
NUMBERS, COUNTS, CODES = SHARE, SHARE + 16 * LANES, SHARE + 32 * LANES
# A row each.
COMMON, MAX, FACTOR, ERROR, SUM_XL, SUM_LL = (SHARE + LANES * row for row in range(48, 54))
TRY, TRY_SCALE, TRY_ERROR = (SHARE + LANES * row for row in range(54, 57))
END = SHARE + 57 * LANES

TRIES = 5


@part
def byte(code: np.int32) -> np.float32:
    """Keep what an uint8 holds of a code."""
    return np.float32(np.int32(code & np.int32(0xFF)))


@part
def share(s: Floats, size: int, largest: np.int32) -> None:
    """Find COMMON and CODES of `size` NUMBERS that count COUNTS; a code is 0…largest, or a wrapped byte."""
    zero, one, top = np.float32(0), np.float32(1), np.float32(largest)
    for lane in range(LANES):
        s[MAX + lane] = zero
        s[ERROR + lane] = zero
        s[SUM_XL + lane] = zero
        s[SUM_LL + lane] = zero
    for i in range(size):
        for lane in range(LANES):
            x, most = s[NUMBERS + i * LANES + lane], s[MAX + lane]
            s[MAX + lane] = most if most > x else x
    for lane in range(LANES):
        factor = top / s[MAX + lane]
        s[FACTOR + lane] = factor
        s[TRY_SCALE + lane] = one / factor
    for i in range(size):
        for lane in range(LANES):
            x = s[NUMBERS + i * LANES + lane]
            level = byte(nearest(s[FACTOR + lane] * x))
            difference = x - s[TRY_SCALE + lane] * level
            s[ERROR + lane] += s[COUNTS + i * LANES + lane] * difference * difference
    for number in range(-4, 5):
        if number != 0:
            reach = np.float32(np.float32(np.float32(0.1) * np.float32(number)) + top)
            for lane in range(LANES):
                factor = reach / s[MAX + lane]
                s[TRY + lane] = factor
                s[TRY_SCALE + lane] = one / factor
                s[TRY_ERROR + lane] = zero
            for i in range(size):
                for lane in range(LANES):
                    x = s[NUMBERS + i * LANES + lane]
                    level = np.float32(min(largest, nearest(s[TRY + lane] * x)))
                    difference = x - s[TRY_SCALE + lane] * level
                    s[TRY_ERROR + lane] += s[COUNTS + i * LANES + lane] * difference * difference
            for lane in range(LANES):
                is_better = s[TRY_ERROR + lane] < s[ERROR + lane]
                s[ERROR + lane] = s[TRY_ERROR + lane] if is_better else s[ERROR + lane]
                s[FACTOR + lane] = s[TRY + lane] if is_better else s[FACTOR + lane]
    for i in range(size):
        for lane in range(LANES):
            x, w = s[NUMBERS + i * LANES + lane], s[COUNTS + i * LANES + lane]
            code = min(largest, nearest(s[FACTOR + lane] * x))
            level = np.float32(code)
            s[CODES + i * LANES + lane] = byte(code)
            s[SUM_XL + lane] += w * x * level
            s[SUM_LL + lane] += w * level * level
    # ggml stops when nothing changes; then nothing would change in what is left either.
    for _ in range(TRIES):
        for i in range(size):
            for lane in range(LANES):
                x, w, level = (
                    s[NUMBERS + i * LANES + lane],
                    s[COUNTS + i * LANES + lane],
                    s[CODES + i * LANES + lane],
                )
                sum_xl, sum_ll = s[SUM_XL + lane], s[SUM_LL + lane]
                without_xl = sum_xl - w * x * level
                without_ll = sum_ll - w * level * level
                code = min(largest, nearest(x * without_ll / without_xl))
                new = np.float32(code)
                with_xl = without_xl + w * x * new
                with_ll = without_ll + w * new * new
                is_better = (
                    (without_xl > zero)
                    & (without_ll > zero)
                    & (new != level)
                    & (with_xl * with_xl * sum_ll > sum_xl * sum_xl * with_ll)
                )
                s[CODES + i * LANES + lane] = byte(code) if is_better else level
                s[SUM_XL + lane] = with_xl if is_better else sum_xl
                s[SUM_LL + lane] = with_ll if is_better else sum_ll
    for lane in range(LANES):
        is_zero = s[MAX + lane] < np.float32(1e-15)  # GROUP_MAX_EPS
        common = s[SUM_XL + lane] / s[SUM_LL + lane] if s[SUM_LL + lane] > zero else zero
        s[COMMON + lane] = zero if is_zero else common
        s[MAX + lane] = zero if is_zero else one
    for i in range(size):
        for lane in range(LANES):
            s[CODES + i * LANES + lane] *= s[MAX + lane]

"""ggml's search for a scale and a minimum, one block a lane: make_qkx2_quants and make_qkx3_quants.

All scratch is one float32 array of rows of LANES, at offsets that the compiler knows, so that it can
prove that loops over lanes may be vectorized. Every lane adds in the scalar order.
"""

import numpy as np

from convert.writer.codecs.lanes.jit import LANES, Floats, clamped, part

# Where rows of the scratch begin: the block's weights, what they count, the codes of a try.
X, W, TRIED = 0, 32 * LANES, 64 * LANES
# A row each: the result; OFFSET and FACTOR give its codes.
SCALE, MIN, OFFSET, FACTOR = (LANES * row for row in range(96, 100))
MAX, SUM_W, SUM_X, ERROR, IS_FLAT = (LANES * row for row in range(100, 105))
# Of a try.
TRY, SUM_L, SUM_LL, SUM_XL, DIVISOR = (LANES * row for row in range(105, 110))
TRY_SCALE, TRY_MIN, TRY_ERROR = (LANES * row for row in range(110, 113))
# A kernel's own rows come after those of the search.
END = LANES * 113

UNROLL = 8  # positions for which a lane's sums stay in registers; blocks are multiples of it


@part
def search(
    s: Floats, size: int, largest: np.int32, low: np.float32, step: np.float32, steps: int, is_absolute: bool
) -> None:
    """Search SCALE and MIN (not yet negated) of `size` weights in X that count W, for codes 0…largest."""
    zero, one, top = np.float32(0), np.float32(1), np.float32(largest)
    for lane in range(LANES):
        x, w = s[X + lane], s[W + lane]
        s[MIN + lane] = x
        s[MAX + lane] = x
        s[SUM_W + lane] = w
        s[SUM_X + lane] = w * x
    for p in range(1, size):
        for lane in range(LANES):
            x, w = s[X + p * LANES + lane], s[W + p * LANES + lane]
            least, most = s[MIN + lane], s[MAX + lane]
            s[MIN + lane] = x if x < least else least
            s[MAX + lane] = x if x > most else most
            s[SUM_W + lane] += w
            s[SUM_X + lane] += w * x
    for lane in range(LANES):
        least = s[MIN + lane]
        least = zero if least > zero else least
        factor = top / (s[MAX + lane] - least)
        s[MIN + lane] = least
        s[OFFSET + lane] = least
        s[IS_FLAT + lane] = one if s[MAX + lane] == least else zero
        s[FACTOR + lane] = factor
        s[TRY + lane] = factor
        s[TRY_SCALE + lane] = one / factor
        s[TRY_MIN + lane] = least
        s[SCALE + lane] = one / factor
    tally(s, size, largest)
    weigh(s, size, is_absolute)
    for lane in range(LANES):
        s[ERROR + lane] = s[TRY_ERROR + lane]
    for number in range(steps + 1):
        reach = np.float32(np.float32(low + np.float32(step * np.float32(number))) + top)
        for lane in range(LANES):
            s[TRY + lane] = reach / (s[MAX + lane] - s[MIN + lane])
        tally(s, size, largest)
        for lane in range(LANES):
            sum_w, sum_x = s[SUM_W + lane], s[SUM_X + lane]
            sum_l, sum_ll, sum_xl = (
                s[SUM_L + lane],
                s[SUM_LL + lane],
                s[SUM_XL + lane],
            )
            divisor = sum_w * sum_ll - sum_l * sum_l
            scale = (sum_w * sum_xl - sum_x * sum_l) / divisor
            least = (sum_ll * sum_x - sum_l * sum_xl) / divisor
            is_above = least > zero
            s[TRY_SCALE + lane] = sum_xl / sum_ll if is_above else scale
            s[TRY_MIN + lane] = zero if is_above else least
            s[DIVISOR + lane] = divisor
        weigh(s, size, is_absolute)
        for lane in range(LANES):
            error, best = s[TRY_ERROR + lane], s[ERROR + lane]
            is_better = (s[DIVISOR + lane] > zero) & (error < best)
            least = s[MIN + lane]
            s[ERROR + lane] = error if is_better else best
            s[FACTOR + lane] = s[TRY + lane] if is_better else s[FACTOR + lane]
            s[OFFSET + lane] = least if is_better else s[OFFSET + lane]
            s[SCALE + lane] = s[TRY_SCALE + lane] if is_better else s[SCALE + lane]
            s[MIN + lane] = s[TRY_MIN + lane] if is_better else least
    # A block of one value: no scale, and codes of 0, as a FACTOR of 0 gives them.
    for lane in range(LANES):
        is_flat = s[IS_FLAT + lane] > zero
        s[SCALE + lane] = zero if is_flat else s[SCALE + lane]
        s[FACTOR + lane] = zero if is_flat else s[FACTOR + lane]


@part
def tally(s: Floats, size: int, largest: np.int32) -> None:
    """Add up, over the codes that TRY and MIN give, what the regression needs; keep the codes."""
    for lane in range(LANES):
        s[SUM_L + lane] = np.float32(0)
        s[SUM_LL + lane] = np.float32(0)
        s[SUM_XL + lane] = np.float32(0)
    for block in range(size // UNROLL):
        for lane in range(LANES):
            factor, least = s[TRY + lane], s[MIN + lane]
            sum_l = s[SUM_L + lane]
            sum_ll = s[SUM_LL + lane]
            sum_xl = s[SUM_XL + lane]
            for p in range(UNROLL):
                at = (block * UNROLL + p) * LANES + lane
                x, w = s[X + at], s[W + at]
                code = clamped(factor * (x - least), largest)
                s[TRIED + at] = code
                counted = w * code
                sum_l += counted
                sum_ll += counted * code
                sum_xl += counted * x
            s[SUM_L + lane] = sum_l
            s[SUM_LL + lane] = sum_ll
            s[SUM_XL + lane] = sum_xl


@part
def weigh(s: Floats, size: int, is_absolute: bool) -> None:
    """Add up the error of the codes at TRY_SCALE and TRY_MIN."""
    for lane in range(LANES):
        s[TRY_ERROR + lane] = np.float32(0)
    for block in range(size // UNROLL):
        for lane in range(LANES):
            scale, least = s[TRY_SCALE + lane], s[TRY_MIN + lane]
            error = s[TRY_ERROR + lane]
            for p in range(UNROLL):
                at = (block * UNROLL + p) * LANES + lane
                difference = scale * s[TRIED + at] + least - s[X + at]
                difference = abs(difference) if is_absolute else difference * difference
                error += s[W + at] * difference
            s[TRY_ERROR + lane] = error

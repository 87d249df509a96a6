"""Super-blocks whose blocks have a scale and a minimum each: what Q2_K, Q4_K and Q5_K share."""

import numpy as np

from convert.writer.codecs.lanes import search as by
from convert.writer.codecs.lanes import share as shared
from convert.writer.codecs.lanes.jit import LANES, Bytes, Floats, clamped, from_half, nearest, part, to_half
from convert.writer.codecs.lanes.search import search
from convert.writer.codecs.lanes.share import share

SUPER = 256
MOST_BLOCKS = 16

# Rows of the scratch: the super-block, or its codes; then per block, the last two as their codes in the file.
ALL = shared.END
SCALES, MINS, COUNTS, FACTORS, OFFSETS, SCALE_CODES, MIN_CODES = (
    ALL + (SUPER + MOST_BLOCKS * group) * LANES for group in range(7)
)
BYTES = ALL + (SUPER + MOST_BLOCKS * 7) * LANES
WORDS = BYTES + 16 * LANES  # of the file, as the bits of floats
# A row each.
SIGMA, BLOCK_COUNT, D, D_MIN = (WORDS + (44 + row) * LANES for row in range(4))
END = WORDS + 48 * LANES


@part
def find(
    s: Floats,
    source: Floats,
    importance: Floats,
    first: int,
    size: int,
    largest: np.int32,
    low: np.float32,
    step: np.float32,
    steps: int,
    is_absolute: bool,
) -> None:
    """Search scales and minimums for the blocks of LANES super-blocks, from the `first` on."""
    weights = source.reshape(source.size)
    last, across = weights.size // SUPER - 1, source.shape[1] // SUPER
    for lane in range(LANES):
        at = min(first + lane, last) * SUPER
        for p in range(SUPER):
            s[ALL + p * LANES + lane] = weights[at + p]
    if importance.size:
        average_squares(s, np.float32(1) if size == 16 else np.float32(2))
    for block in range(SUPER // size):
        for p in range(size):
            for lane in range(LANES):
                s[by.X + p * LANES + lane] = s[ALL + (block * size + p) * LANES + lane]
        if importance.size:
            for lane in range(LANES):
                at = (min(first + lane, last) % across) * SUPER + block * size
                for p in range(size):
                    s[by.W + p * LANES + lane] = importance[at + p]
            count_by_importance(s, size)
            search(s, size, largest, np.float32(-0.9), np.float32(0.05), 36, False)
        else:
            count_by_size(s, size, is_absolute)
            search(s, size, largest, low, step, steps, is_absolute)
        for lane in range(LANES):
            s[SCALES + block * LANES + lane] = s[by.SCALE + lane]
            s[MINS + block * LANES + lane] = -s[by.MIN + lane]
            s[COUNTS + block * LANES + lane] = s[BLOCK_COUNT + lane]
            s[FACTORS + block * LANES + lane] = s[by.FACTOR + lane]
            s[OFFSETS + block * LANES + lane] = s[by.OFFSET + lane]


@part
def average_squares(s: Floats, times: np.float32) -> None:
    """Average the squares of the super-block, times something: sigma2."""
    for lane in range(LANES):
        s[SIGMA + lane] = np.float32(0)
    for p in range(SUPER):
        for lane in range(LANES):
            x = s[ALL + p * LANES + lane]
            s[SIGMA + lane] += x * x
    for lane in range(LANES):
        s[SIGMA + lane] = times * s[SIGMA + lane] / np.float32(SUPER)


@part
def count_by_importance(s: Floats, size: int) -> None:
    """Let each weight count as its column matters and it is large; add up what the block counts."""
    for lane in range(LANES):
        s[BLOCK_COUNT + lane] = np.float32(0)
    for p in range(size):
        for lane in range(LANES):
            x = s[by.X + p * LANES + lane]
            w = s[by.W + p * LANES + lane] * np.sqrt(s[SIGMA + lane] + x * x)
            s[by.W + p * LANES + lane] = w
            s[BLOCK_COUNT + lane] += w


@part
def count_by_size(s: Floats, size: int, is_absolute: bool) -> None:
    """Let each weight count as it is large, by itself or over the block's average."""
    for lane in range(LANES):
        s[BLOCK_COUNT + lane] = np.float32(0)
    if not is_absolute:
        for p in range(size):
            for lane in range(LANES):
                x = s[by.X + p * LANES + lane]
                s[BLOCK_COUNT + lane] += x * x
        for lane in range(LANES):
            s[BLOCK_COUNT + lane] = np.sqrt(s[BLOCK_COUNT + lane] / np.float32(size))
    for p in range(size):
        for lane in range(LANES):
            s[by.W + p * LANES + lane] = s[BLOCK_COUNT + lane] + abs(s[by.X + p * LANES + lane])


@part
def divide(s: Floats, blocks: int, largest: np.float32, most: np.int32) -> None:
    """Code scales and minimums by their share of the largest, as bytes of which none is above `most`."""
    zero = np.float32(0)
    for lane in range(LANES):
        s[D + lane] = zero
        s[D_MIN + lane] = zero
    for block in range(blocks):
        for lane in range(LANES):
            scale, least = s[SCALES + block * LANES + lane], s[MINS + block * LANES + lane]
            s[D + lane] = scale if scale > s[D + lane] else s[D + lane]
            s[D_MIN + lane] = least if least > s[D_MIN + lane] else s[D_MIN + lane]
    for block in range(blocks):
        for lane in range(LANES):
            scale = largest / s[D + lane] if s[D + lane] > zero else zero
            least = largest / s[D_MIN + lane] if s[D_MIN + lane] > zero else zero
            scale_code = np.int32(nearest(scale * s[SCALES + block * LANES + lane]) & np.int32(0xFF))
            min_code = np.int32(nearest(least * s[MINS + block * LANES + lane]) & np.int32(0xFF))
            s[SCALE_CODES + block * LANES + lane] = np.float32(min(most, scale_code))
            s[MIN_CODES + block * LANES + lane] = np.float32(min(most, min_code))
    for lane in range(LANES):
        s[D + lane] /= largest
        s[D_MIN + lane] /= largest


@part
def share_all(s: Floats, blocks: int, largest: np.int32, most: np.float32) -> None:
    """Search the scale of the scales, and that of the minimums; a wrapped byte is not above `most`."""
    for block in range(blocks):
        for lane in range(LANES):
            s[shared.NUMBERS + block * LANES + lane] = s[SCALES + block * LANES + lane]
            s[shared.COUNTS + block * LANES + lane] = s[COUNTS + block * LANES + lane]
    share(s, blocks, largest)
    for lane in range(LANES):
        s[D + lane] = s[shared.COMMON + lane]
    for block in range(blocks):
        for lane in range(LANES):
            s[SCALE_CODES + block * LANES + lane] = min(most, s[shared.CODES + block * LANES + lane])
            s[shared.NUMBERS + block * LANES + lane] = s[MINS + block * LANES + lane]
    share(s, blocks, largest)
    for lane in range(LANES):
        s[D_MIN + lane] = s[shared.COMMON + lane]
    for block in range(blocks):
        for lane in range(LANES):
            s[MIN_CODES + block * LANES + lane] = min(most, s[shared.CODES + block * LANES + lane])


@part
def pack_d(s: Floats, word: int) -> None:
    """Round D and D_MIN to float16, into a word of the file; go on with what that holds."""
    for lane in range(LANES):
        d, d_min = to_half(s[D + lane]), to_half(s[D_MIN + lane])
        s[WORDS + word * LANES + lane] = np.int32(d | np.int32(d_min << np.int32(16))).view(np.float32)
        s[D + lane] = from_half(d)
        s[D_MIN + lane] = from_half(d_min)


@part
def pack_bytes(s: Floats, count: int, word: int) -> None:
    """Pack BYTES into words of the file, from the given one on."""
    for quad in range(count // 4):
        for lane in range(LANES):
            at = BYTES + quad * 4 * LANES + lane
            s[WORDS + (word + quad) * LANES + lane] = np.int32(
                np.int32(s[at])
                | np.int32(np.int32(s[at + LANES]) << np.int32(8))
                | np.int32(np.int32(s[at + 2 * LANES]) << np.int32(16))
                | np.int32(np.int32(s[at + 3 * LANES]) << np.int32(24))
            ).view(np.float32)


@part
def encode_all(s: Floats, size: int, largest: np.int32) -> None:
    """Replace all weights by codes at the scales of the file; at a scale of 0, as searched."""
    for block in range(SUPER // size):
        for p in range(size):
            for lane in range(LANES):
                x = s[ALL + (block * size + p) * LANES + lane]
                scale = s[D + lane] * s[SCALE_CODES + block * LANES + lane]
                least = s[D_MIN + lane] * s[MIN_CODES + block * LANES + lane]
                factor, offset = s[FACTORS + block * LANES + lane], s[OFFSETS + block * LANES + lane]
                code = clamped((x + least) / scale, largest)
                searched = clamped(factor * (x - offset), largest)
                s[ALL + (block * size + p) * LANES + lane] = code if scale != np.float32(0) else searched


@part
def store(s: Floats, out: Bytes, first: int, size: int) -> None:
    """Write the words of each super-block."""
    words = out.reshape(out.size).view(np.int32)
    for lane in range(min(LANES, words.size // size - first)):
        at = (first + lane) * size
        for word in range(size):
            words[at + word] = np.float32(s[WORDS + word * LANES + lane]).view(np.int32)

"""Super-blocks of eight blocks of 32 weights with a scale and a minimum each: Q4_K and Q5_K."""

import numpy as np

from convert.writer.codecs.lanes import search as by
from convert.writer.codecs.lanes import share as shared
from convert.writer.codecs.lanes.jit import LANES, Bytes, Floats, clamped, from_half, nearest, part, to_half
from convert.writer.codecs.lanes.search import search
from convert.writer.codecs.lanes.share import share

SUPER, BLOCK, BLOCKS = 256, 32, 8
HEAD = 4  # words before the codes: both scales of the super-block, and 12 bytes for those of its blocks

ALL = shared.END  # the super-block's weights
SCALES, MINS, COUNTS, FACTORS, OFFSETS, L_SCALES, L_MINS = (
    ALL + (SUPER + BLOCKS * group) * LANES for group in range(7)
)
BYTES = ALL + (SUPER + BLOCKS * 7) * LANES  # of the blocks' scales and minimums
OUT = BYTES + 12 * LANES  # words of the file
SQUARES, D, D_MIN = (OUT + (44 + row) * LANES for row in range(3))
END = OUT + 47 * LANES


@part
def fill(
    source: Floats,
    importance: Floats,
    out: Bytes,
    largest: np.int32,
    low: np.float32,
    step: np.float32,
    steps: int,
) -> None:
    """Encode all super-blocks, LANES at a time."""
    columns = source.shape[1]
    weights, words = source.reshape(source.size), out.reshape(out.size).view(np.int32)
    count, across = weights.size // SUPER, columns // SUPER
    size = HEAD + 32 + (8 if largest > np.int32(15) else 0)
    s = np.empty(END, np.float32)
    for first in range(0, count, LANES):
        for lane in range(LANES):
            at = min(first + lane, count - 1) * SUPER
            for p in range(SUPER):
                s[ALL + p * LANES + lane] = weights[at + p]
        if importance.size:
            square(s)
        for block in range(BLOCKS):
            for p in range(BLOCK):
                for lane in range(LANES):
                    s[by.X + p * LANES + lane] = s[ALL + (block * BLOCK + p) * LANES + lane]
            if importance.size:
                for lane in range(LANES):
                    at = (min(first + lane, count - 1) % across) * SUPER + block * BLOCK
                    for p in range(BLOCK):
                        s[by.W + p * LANES + lane] = importance[at + p]
                count_by_importance(s)
                search(s, BLOCK, largest, np.float32(-0.9), np.float32(0.05), 36, False)
            else:
                count_by_size(s)
                search(s, BLOCK, largest, low, step, steps, False)
            for lane in range(LANES):
                s[SCALES + block * LANES + lane] = s[by.SCALE + lane]
                s[MINS + block * LANES + lane] = -s[by.MIN + lane]
                s[COUNTS + block * LANES + lane] = s[D + lane]
                s[FACTORS + block * LANES + lane] = s[by.FACTOR + lane]
                s[OFFSETS + block * LANES + lane] = s[by.OFFSET + lane]
        if importance.size:
            share_all(s, largest)
        else:
            divide(s)
        pack_scales(s)
        encode_all(s, largest)
        if largest > np.int32(15):
            pack_five(s)
        else:
            pack_four(s)
        for lane in range(min(LANES, count - first)):
            at = (first + lane) * size
            for word in range(size):
                words[at + word] = np.float32(s[OUT + word * LANES + lane]).view(np.int32)


@part
def square(s: Floats) -> None:
    """Average the squares of the super-block, twice: sigma2."""
    for lane in range(LANES):
        s[SQUARES + lane] = np.float32(0)
    for p in range(SUPER):
        for lane in range(LANES):
            x = s[ALL + p * LANES + lane]
            s[SQUARES + lane] += x * x
    for lane in range(LANES):
        s[SQUARES + lane] = np.float32(2) * s[SQUARES + lane] / np.float32(SUPER)


@part
def count_by_importance(s: Floats) -> None:
    """Let each weight count as its column matters and it is large; add up what the block counts."""
    for lane in range(LANES):
        s[D + lane] = np.float32(0)
    for p in range(BLOCK):
        for lane in range(LANES):
            x = s[by.X + p * LANES + lane]
            w = s[by.W + p * LANES + lane] * np.sqrt(s[SQUARES + lane] + x * x)
            s[by.W + p * LANES + lane] = w
            s[D + lane] += w


@part
def count_by_size(s: Floats) -> None:
    """Let each weight count as it is large."""
    for lane in range(LANES):
        s[D + lane] = np.float32(0)
    for p in range(BLOCK):
        for lane in range(LANES):
            x = s[by.X + p * LANES + lane]
            s[D + lane] += x * x
    for lane in range(LANES):
        s[D + lane] = np.sqrt(s[D + lane] / np.float32(BLOCK))
    for p in range(BLOCK):
        for lane in range(LANES):
            s[by.W + p * LANES + lane] = s[D + lane] + abs(s[by.X + p * LANES + lane])


@part
def divide(s: Floats) -> None:
    """Code the scales and the minimums in steps of a 63rd of the largest."""
    for lane in range(LANES):
        s[D + lane] = np.float32(0)
        s[D_MIN + lane] = np.float32(0)
    for block in range(BLOCKS):
        for lane in range(LANES):
            scale, least = s[SCALES + block * LANES + lane], s[MINS + block * LANES + lane]
            s[D + lane] = scale if scale > s[D + lane] else s[D + lane]
            s[D_MIN + lane] = least if least > s[D_MIN + lane] else s[D_MIN + lane]
    top = np.float32(63)
    for block in range(BLOCKS):
        for lane in range(LANES):
            scale = top / s[D + lane] if s[D + lane] > np.float32(0) else np.float32(0)
            least = top / s[D_MIN + lane] if s[D_MIN + lane] > np.float32(0) else np.float32(0)
            l_scale = np.int32(nearest(scale * s[SCALES + block * LANES + lane]) & np.int32(0xFF))
            l_min = np.int32(nearest(least * s[MINS + block * LANES + lane]) & np.int32(0xFF))
            s[L_SCALES + block * LANES + lane] = np.float32(min(np.int32(63), l_scale))
            s[L_MINS + block * LANES + lane] = np.float32(min(np.int32(63), l_min))
    for lane in range(LANES):
        s[D + lane] /= top
        s[D_MIN + lane] /= top


@part
def share_all(s: Floats, largest: np.int32) -> None:
    """Search the scale of the scales, and that of the minimums."""
    for block in range(BLOCKS):
        for lane in range(LANES):
            s[shared.NUMBERS + block * LANES + lane] = s[SCALES + block * LANES + lane]
            s[shared.COUNTS + block * LANES + lane] = s[COUNTS + block * LANES + lane]
    share(s, BLOCKS, np.int32(63))
    # Q5_K clamps a byte that has wrapped, and Q4_K does not.
    most = np.float32(63) if largest > np.int32(15) else np.float32(255)
    for lane in range(LANES):
        s[D + lane] = s[shared.COMMON + lane]
    for block in range(BLOCKS):
        for lane in range(LANES):
            s[L_SCALES + block * LANES + lane] = min(most, s[shared.CODES + block * LANES + lane])
            s[shared.NUMBERS + block * LANES + lane] = s[MINS + block * LANES + lane]
    share(s, BLOCKS, np.int32(63))
    for lane in range(LANES):
        s[D_MIN + lane] = s[shared.COMMON + lane]
    for block in range(BLOCKS):
        for lane in range(LANES):
            s[L_MINS + block * LANES + lane] = min(most, s[shared.CODES + block * LANES + lane])


@part
def pack_scales(s: Floats) -> None:
    """Pack eight scales and minimums of six bits in 12 bytes; then read all back as llama.cpp does."""
    for block in range(4):
        for lane in range(LANES):
            low_scale = np.int32(s[L_SCALES + block * LANES + lane])
            low_min = np.int32(s[L_MINS + block * LANES + lane])
            scale = np.int32(s[L_SCALES + (block + 4) * LANES + lane])
            least = np.int32(s[L_MINS + (block + 4) * LANES + lane])
            first = np.int32((low_scale | np.int32((scale >> np.int32(4)) << np.int32(6))) & np.int32(0xFF))
            second = np.int32((low_min | np.int32((least >> np.int32(4)) << np.int32(6))) & np.int32(0xFF))
            third = np.int32((scale & np.int32(15)) | np.int32((least & np.int32(15)) << np.int32(4)))
            s[BYTES + block * LANES + lane] = np.float32(first)
            s[BYTES + (block + 4) * LANES + lane] = np.float32(second)
            s[BYTES + (block + 8) * LANES + lane] = np.float32(third)
            s[L_SCALES + block * LANES + lane] = np.float32(np.int32(first & np.int32(63)))
            s[L_MINS + block * LANES + lane] = np.float32(np.int32(second & np.int32(63)))
            s[L_SCALES + (block + 4) * LANES + lane] = np.float32(
                np.int32((third & np.int32(15)) | np.int32((first >> np.int32(6)) << np.int32(4)))
            )
            s[L_MINS + (block + 4) * LANES + lane] = np.float32(
                np.int32((third >> np.int32(4)) | np.int32((second >> np.int32(6)) << np.int32(4)))
            )
    for lane in range(LANES):
        d, d_min = to_half(s[D + lane]), to_half(s[D_MIN + lane])
        s[OUT + lane] = np.int32(d | np.int32(d_min << np.int32(16))).view(np.float32)
        s[D + lane] = from_half(d)
        s[D_MIN + lane] = from_half(d_min)
    for word in range(3):
        for lane in range(LANES):
            at = BYTES + word * 4 * LANES + lane
            s[OUT + (1 + word) * LANES + lane] = np.int32(
                np.int32(s[at])
                | np.int32(np.int32(s[at + LANES]) << np.int32(8))
                | np.int32(np.int32(s[at + 2 * LANES]) << np.int32(16))
                | np.int32(np.int32(s[at + 3 * LANES]) << np.int32(24))
            ).view(np.float32)


@part
def encode_all(s: Floats, largest: np.int32) -> None:
    """Replace all weights by codes at the scales of the file; at a scale of 0, as searched."""
    for block in range(BLOCKS):
        for p in range(BLOCK):
            for lane in range(LANES):
                x = s[ALL + (block * BLOCK + p) * LANES + lane]
                scale = s[D + lane] * s[L_SCALES + block * LANES + lane]
                least = s[D_MIN + lane] * s[L_MINS + block * LANES + lane]
                code = clamped((x + least) / scale, largest)
                searched = clamped(
                    s[FACTORS + block * LANES + lane] * (x - s[OFFSETS + block * LANES + lane]), largest
                )
                s[ALL + (block * BLOCK + p) * LANES + lane] = code if scale != np.float32(0) else searched


@part
def pack_four(s: Floats) -> None:
    """Pack two codes a byte: those of a block, and those of the next in the upper half."""
    for pair in range(4):
        for quad in range(8):
            for lane in range(LANES):
                packed = np.int32(0)
                for p in range(4):
                    at = ALL + (pair * 64 + quad * 4 + p) * LANES + lane
                    low, high = np.int32(s[at]), np.int32(s[at + 32 * LANES])
                    packed |= np.int32(np.int32(low | np.int32(high << np.int32(4))) << np.int32(8 * p))
                s[OUT + (HEAD + pair * 8 + quad) * LANES + lane] = np.int32(packed).view(np.float32)


@part
def pack_five(s: Floats) -> None:
    """Pack the fifth bits of all codes, one byte for eight blocks; then four bits of each."""
    for quad in range(8):
        for lane in range(LANES):
            packed = np.int32(0)
            for p in range(4):
                for block in range(8):
                    code = np.int32(s[ALL + (block * 32 + quad * 4 + p) * LANES + lane])
                    packed |= np.int32(np.int32(code >> np.int32(4)) << np.int32(8 * p + block))
            s[OUT + (HEAD + quad) * LANES + lane] = np.int32(packed).view(np.float32)
    for pair in range(4):
        for quad in range(8):
            for lane in range(LANES):
                packed = np.int32(0)
                for p in range(4):
                    at = ALL + (pair * 64 + quad * 4 + p) * LANES + lane
                    low = np.int32(np.int32(s[at]) & np.int32(15))
                    high = np.int32(np.int32(s[at + 32 * LANES]) & np.int32(15))
                    packed |= np.int32(np.int32(low | np.int32(high << np.int32(4))) << np.int32(8 * p))
                s[OUT + (HEAD + 8 + pair * 8 + quad) * LANES + lane] = np.int32(packed).view(np.float32)

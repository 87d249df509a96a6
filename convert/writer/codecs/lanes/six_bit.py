"""Eight blocks of 32 weights, their scales and minimums in six bits: Q4_K and Q5_K."""

import numpy as np

from convert.writer.codecs.lanes.jit import LANES, Bytes, Floats, part
from convert.writer.codecs.lanes.scaled import (
    ALL,
    BYTES,
    END,
    MIN_CODES,
    SCALE_CODES,
    SUPER,
    WORDS,
    divide,
    encode_all,
    find,
    pack_bytes,
    pack_d,
    share_all,
    store,
)

SIZE, BLOCKS = 32, 8
HEAD = 4  # words before the codes: the scales of the super-block, and 12 bytes for those of its blocks


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
    has_fifth = largest > np.int32(15)
    s = np.empty(END, np.float32)
    for first in range(0, source.size // SUPER, LANES):
        find(s, source, importance, first, SIZE, largest, low, step, steps, False)
        if importance.size:
            # Q5_K clamps a byte that has wrapped, and Q4_K does not.
            share_all(s, BLOCKS, np.int32(63), np.float32(63) if has_fifth else np.float32(255))
        else:
            divide(s, BLOCKS, np.float32(63), np.int32(63))
        pack_scales(s)
        encode_all(s, SIZE, largest)
        if has_fifth:
            pack_fifth_bits(s)
            pack_halves(s, HEAD + 8)
            store(s, out, first, HEAD + 8 + 32)
        else:
            pack_halves(s, HEAD)
            store(s, out, first, HEAD + 32)


@part
def pack_scales(s: Floats) -> None:
    """Pack eight scales and minimums of six bits in 12 bytes; then read all back as llama.cpp does."""
    four, six, low, all_six = np.int32(4), np.int32(6), np.int32(15), np.int32(63)
    for block in range(4):
        for lane in range(LANES):
            at, other = block * LANES + lane, (block + 4) * LANES + lane
            scale, least = np.int32(s[SCALE_CODES + other]), np.int32(s[MIN_CODES + other])
            first = np.int32(np.int32(s[SCALE_CODES + at]) | np.int32((scale >> four) << six))
            second = np.int32(np.int32(s[MIN_CODES + at]) | np.int32((least >> four) << six))
            first, second = np.int32(first & np.int32(0xFF)), np.int32(second & np.int32(0xFF))
            third = np.int32((scale & low) | np.int32((least & low) << four))
            s[BYTES + at], s[BYTES + other] = np.float32(first), np.float32(second)
            s[BYTES + (block + 8) * LANES + lane] = np.float32(third)
            s[SCALE_CODES + at] = np.float32(np.int32(first & all_six))
            s[MIN_CODES + at] = np.float32(np.int32(second & all_six))
            s[SCALE_CODES + other] = np.float32(np.int32((third & low) | np.int32((first >> six) << four)))
            s[MIN_CODES + other] = np.float32(np.int32((third >> four) | np.int32((second >> six) << four)))
    pack_d(s, 0)
    pack_bytes(s, 12, 1)


@part
def pack_halves(s: Floats, word: int) -> None:
    """Pack four bits of two codes a byte: those of a block, and those of the next in the upper half."""
    for pair in range(4):
        for quad in range(8):
            for lane in range(LANES):
                packed = np.int32(0)
                for p in range(4):
                    at = ALL + (pair * 64 + quad * 4 + p) * LANES + lane
                    low = np.int32(np.int32(s[at]) & np.int32(15))
                    high = np.int32(np.int32(s[at + 32 * LANES]) & np.int32(15))
                    packed |= np.int32(np.int32(low | np.int32(high << np.int32(4))) << np.int32(8 * p))
                s[WORDS + (word + pair * 8 + quad) * LANES + lane] = np.int32(packed).view(np.float32)


@part
def pack_fifth_bits(s: Floats) -> None:
    """Pack the fifth bits of all codes, a byte for one of each block."""
    for quad in range(8):
        for lane in range(LANES):
            packed = np.int32(0)
            for p in range(4):
                for block in range(8):
                    code = np.int32(s[ALL + (block * 32 + quad * 4 + p) * LANES + lane])
                    packed |= np.int32(np.int32(code >> np.int32(4)) << np.int32(8 * p + block))
            s[WORDS + (HEAD + quad) * LANES + lane] = np.int32(packed).view(np.float32)

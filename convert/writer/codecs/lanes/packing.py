"""How the codes of a super-block share bytes: two halves of four bits, or four parts of two."""

from convert.writer.codecs.lanes.jit import part
from convert.writer.codecs.lanes.memory import load_ints, store
from convert.writer.codecs.lanes.vector import WIDTH, Scratch, ints


@part
def pack_nibbles(scratch: Scratch, words_at: int, apart: int) -> None:
    """Pack the low four bits of 256 codes in 32 words: codes so far apart share bytes."""
    words = apart // 4
    for i in range(32):
        word = ints(0)
        for byte in range(4):
            place = (i // words * 2 * apart + i % words * 4 + byte) * WIDTH
            pair = (load_ints(scratch, place) & 15) | ((load_ints(scratch, place + apart * WIDTH) & 15) << 4)
            word = word | (pair << (8 * byte))
        store(scratch, words_at + i * WIDTH, word)


@part
def pack_two_bits(scratch: Scratch, codes_at: int, words_at: int, shift: int) -> None:
    """Pack two bits of each of 256 codes in 16 words: codes that are 32 apart share bytes."""
    for i in range(16):
        word = ints(0)
        for byte in range(4):
            for turn in range(4):
                place = codes_at + (i // 8 * 128 + turn * 32 + i % 8 * 4 + byte) * WIDTH
                word = word | (((load_ints(scratch, place) >> shift) & 3) << (8 * byte + 2 * turn))
        store(scratch, words_at + i * WIDTH, word)

"""GPT-2's way of writing any byte as a printable character, which every byte-level vocabulary keeps to."""

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))

# Bytes that print stand for themselves; the rest take the characters from U+0100 on, in order.
_CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(0x100 + place) for place, byte in enumerate(b for b in range(256) if b not in _PRINTABLE)
}
# Latin-1 maps bytes to code points one to one, so str.translate does the work in C.
_TABLE = {byte: ord(character) for byte, character in _CHARACTERS.items()}


def spell(token: bytes) -> str:
    """The bytes of a token as vocab.json writes them."""
    return token.decode("latin-1").translate(_TABLE)

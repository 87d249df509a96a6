"""The mapping of bytes to printable characters, which every byte-level vocabulary uses."""

_PRINTABLE = (*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100))

# Printable bytes are mapped to themselves, the others to the characters from U+0100 on, in order.
_CHARACTERS = {byte: chr(byte) for byte in _PRINTABLE} | {
    byte: chr(0x100 + index) for index, byte in enumerate(b for b in range(256) if b not in _PRINTABLE)
}
# Latin-1 maps bytes to code points one to one, so str.translate does the work in C.
_TABLE = {byte: ord(character) for byte, character in _CHARACTERS.items()}


def spell(token: bytes) -> str:
    """Write the bytes of a token as vocab.json does."""
    return token.decode("latin-1").translate(_TABLE)

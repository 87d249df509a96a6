"""The wire format of protobuf, as far as a sentencepiece model uses it."""

import struct
from collections.abc import Iterator

_VARINT, _BYTES = 0, 2
_FLOATS = {1: struct.Struct("<d"), 5: struct.Struct("<f")}


def read_fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Yield the field numbers and raw values of a message; ValueError or IndexError where it is damaged."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, position = _varint(message, position)
            yield field, value
        elif wire == _BYTES:
            size, position = _varint(message, position)
            if position + size > len(message):
                raise ValueError
            yield field, message[position : position + size]
            position += size
        elif wire in _FLOATS:
            if position + _FLOATS[wire].size > len(message):
                raise ValueError
            yield field, _FLOATS[wire].unpack_from(message, position)[0]
            position += _FLOATS[wire].size
        else:
            raise ValueError


def _varint(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError

"""Seeded changes to a file: bytes anywhere, and values of a JSON or YAML text where it has them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

# Written as they are, since json.dumps would not.
NASTY = (
    "1" + "0" * 5000, "-1", "0", "1e999", "1e-308", "NaN", "-Infinity", "9223372036854775808", "2147483648",
    "100000000", "1.5", "true", "null", '""', '"\\ud800"', '"\\u0000"', '"' + "x" * 20_000 + '"', "[]", "{}",
    "[[]]", "[null]", "[" * 500 + "]" * 500, '"../../x"', '"\\u202e\\u001b[31m"', "[1, 2, 3]",
    '{"a": {"b": []}}', '"{{ 10**9999999 }}"', '"1"', "18446744073709551616", "4.9e-324", '[""]', '"%s%n"',
)  # fmt: skip
BYTES = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\x7f",
    b"\xed\xa0\x80",
    b"\x80",
    b"{",
    b"[",
    b'"',
    b"\\",
    b"&a *a",
)
_HOLE = "@hole@"


def mutant(data: bytes, draw: random.Random, *, is_json: bool) -> bytes:
    """Change a file once to a few times; half of the changes to JSON are of its values."""
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        data = (_value if is_json and draw.random() < 0.7 else _bytes)(data, draw)
    return data


def _bytes(data: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(data) + 1)
    end = min(len(data), at + draw.choice((1, 1, 2, 8, 64, 512)))
    match draw.randrange(6):
        case 0:
            return data[:at] + bytes(byte ^ (1 << draw.randrange(8)) for byte in data[at:end]) + data[end:]
        case 1:
            return data[:at] + data[end:]
        case 2:
            return data[:end] + data[at:end] * draw.choice((1, 2, 50)) + data[end:]
        case 3:
            return data[:at]
        case 4:
            return data[:at] + draw.choice(BYTES) + data[end:]
        case _:
            return data[:at] + draw.choice(NASTY).encode("utf-8", "surrogatepass") + data[end:]


def _value(data: bytes, draw: random.Random) -> bytes:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return _bytes(data, draw)
    places = list(_places(content))
    if not places:
        return _bytes(data, draw)
    holder, key = draw.choice(places)
    match draw.randrange(5):
        case 0:
            del holder[key]
        case 1:  # another value of the same file, in a place where it does not belong
            other, name = draw.choice(places)
            holder[key] = other[name]
        case _:
            holder[key] = _HOLE
    try:
        text = json.dumps(content, ensure_ascii=draw.random() < 0.5)
    except (ValueError, RecursionError):  # it has become a part of itself
        return _bytes(data, draw)
    return text.replace(f'"{_HOLE}"', draw.choice(NASTY)).encode("utf-8", "surrogatepass")


def _places(value: Any, depth: int = 0) -> Any:
    """Yield where values are, as (holder, key); of a long list or map only some."""
    if depth > 8:
        return
    keys: list[Any] = (
        list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    )
    for key in keys[:200]:
        yield value, key
        yield from _places(value[key], depth + 1)

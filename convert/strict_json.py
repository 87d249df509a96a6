"""JSON from files that others wrote, and JSON that others will read: within limits that every reader has."""

import json
import math
import re
from typing import Any

from convert.errors import Failure, shown

# Python refuses to read or show integers of more than 4,300 digits; no size, id or offset has 20.
MAX_DIGITS = 40
_HALF_PAIR = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]")


def parse(text: bytes, what: str, hint: str, *, has_infinity: bool = False) -> Any:
    """Parse JSON in which no key is given twice; readers differ in which of the two they take.

    Some configs have a bare Infinity, which is no JSON; it is read where that is allowed, and NaN nowhere.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise Failure(f"{what}: the key {shown(key)} is given twice", hint)
            content[key] = value
        return content

    def constant(name: str) -> float:
        if name == "NaN" or not has_infinity:
            raise ValueError(f"{name} is no number")
        return float(name)

    try:
        parsed = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=unique,
            parse_int=_integer,
            parse_float=_float,
            parse_constant=constant,
        )
        if _HALF_PAIR.search(text):
            _require_characters(parsed)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error))
        raise Failure(f"{what} is not valid JSON ({why})", hint) from error
    return parsed


def parse_object(text: bytes, what: str, hint: str, *, has_infinity: bool = False) -> dict[str, Any]:
    """Parse a JSON object."""
    parsed = parse(text, what, hint, has_infinity=has_infinity)
    if not isinstance(parsed, dict):
        raise Failure(f"{what} is not a JSON object", hint)
    return parsed


def to_json(content: object, *, indent: int | None = 2, sort_keys: bool = True) -> bytes:
    """Write JSON that every reader takes; an infinite number is spelled as Transformers does."""
    text = json.dumps(
        _spelled(content), ensure_ascii=False, indent=indent, sort_keys=sort_keys, allow_nan=False
    )
    return text.encode()


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"a number beyond all floats: {text[:MAX_DIGITS]}")
    return value


def _require_characters(value: object) -> None:
    """Raise ValueError where half of a surrogate pair is alone: no file could hold such a text."""
    if isinstance(value, str):
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise ValueError("a text has half a character, of a surrogate pair")
    elif isinstance(value, dict):
        for key, each in value.items():
            _require_characters(key)
            _require_characters(each)
    elif isinstance(value, list):
        for each in value:
            _require_characters(each)


def _spelled(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return {"__float__": "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {key: _spelled(each) for key, each in value.items()}
    return [_spelled(each) for each in value] if isinstance(value, list | tuple) else value

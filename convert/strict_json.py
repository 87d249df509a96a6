"""JSON from files that others wrote."""

import json
from typing import Any

from convert.errors import Failure, shown


def parse_object(text: bytes, what: str, hint: str) -> dict[str, Any]:
    """Parse a JSON object in which no key is given twice; readers differ in which of the two they take."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content: dict[str, Any] = {}
        for key, value in pairs:
            if key in content:
                raise Failure(f"{what}: the key {shown(key)} is given twice", hint)
            content[key] = value
        return content

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error))
        raise Failure(f"{what} is not valid JSON ({why})", hint) from error
    if not isinstance(parsed, dict):
        raise Failure(f"{what} is not a JSON object", hint)
    return parsed

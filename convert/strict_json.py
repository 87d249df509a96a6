"""JSON from files that others wrote."""

import json
from collections import Counter
from typing import Any

from convert.errors import Failure, shown


def parse_object(text: bytes, what: str, hint: str) -> dict[str, Any]:
    """Parse a JSON object in which no key is given twice; readers differ in which of the two they take."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise Failure(f"{what}: the key {shown(twice)} is given twice", hint)
        return content

    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else shown(str(error))
        raise Failure(f"{what} is not valid JSON ({why})", hint) from error
    if not isinstance(parsed, dict):
        raise Failure(f"{what} is not a JSON object", hint)
    return parsed

"""The size of a file as a recipe writes it: "500M", "4G"."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from convert.recipe.check import wrong

# Decimal, as llama-gguf-split and Transformers count.
_UNIT_BYTES = {"M": 1000**2, "G": 1000**3}
_PATTERN = "^[1-9][0-9]{0,5}[MG]B?$"


def _check(size: str) -> str:
    if not re.fullmatch(_PATTERN, size):
        raise wrong(f"{size[:40]!r} is not a size", 'write a whole number and a unit: "500M" or "4G"')
    return size


FileSize = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": _PATTERN})]


def size_in_bytes(size: str) -> int:
    """Return the bytes of a size that was checked."""
    digits, unit, _ = re.split("([MG])", size)
    return int(digits) * _UNIT_BYTES[unit]

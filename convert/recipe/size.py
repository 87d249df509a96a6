"""The size of a file as a recipe writes it: "500M", "4G"."""

import re
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, Field

from convert.recipe.check import wrong

# Decimal, as llama-gguf-split and Transformers count.
_UNIT_BYTES = {"M": 1000**2, "G": 1000**3}
_PATTERN = r"^[0-9]{1,6}(\.[0-9]{1,3})?[MG]B?$"


def _check(size: str) -> str:
    if not re.fullmatch(_PATTERN, size) or not size_in_bytes(size):
        raise wrong(f"{size[:40]!r} is not a size", 'write a number and a unit: "500M", "4G" or "4.5G"')
    return size


FileSize = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": _PATTERN})]


def size_in_bytes(size: str) -> int:
    """Return the bytes of a size that was checked."""
    digits, unit, _ = re.split("([MG])", size)
    return int(Decimal(digits) * _UNIT_BYTES[unit])

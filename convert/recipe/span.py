"""A time span as a recipe or a person writes it: "90s", "30min", "2h", "auto", or "none" for no limit."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field

from convert.recipe.check import wrong

NONE = "none"
AUTO = "auto"  # of a verification, unless a recipe says otherwise
MOST = "15min"  # that it takes then
_UNIT_S = {"s": 1, "min": 60, "h": 3600}
_PATTERN = "^(auto|none|[1-9][0-9]{0,4}(s|min|h))$"
HINT = 'write a whole number and a unit, "90s", "30min" or "2h"; "none" is no limit, "auto" leaves it to us'


def is_span(text: str) -> bool:
    """Tell whether a text is a time span."""
    return re.fullmatch(_PATTERN, text) is not None


def _check(text: str) -> str:
    if not is_span(text):
        raise wrong(f"{text[:40]!r} is not a time span", HINT)
    return text


TimeSpan = Annotated[str, AfterValidator(_check), Field(json_schema_extra={"pattern": _PATTERN})]


def span_s(text: str) -> float | None:
    """Return the most seconds of a time span that was checked; None where there is no limit."""
    if text == NONE:
        return None
    if text == AUTO:
        return span_s(MOST)
    number, unit, _ = re.split("(s|min|h)", text)
    return float(int(number) * _UNIT_S[unit])

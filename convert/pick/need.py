"""What a person needs: how long texts are, how many people ask at once, and what they will not do without."""

import re
from dataclasses import dataclass
from typing import Literal

from convert.errors import UsageFailure

Goal = Literal["quality", "speed", "size"]
_TOKENS = re.compile(r"(\d+(?:\.\d+)?)\s*(k?)", re.IGNORECASE)


@dataclass(frozen=True)
class Need:
    """What is asked of a model on a machine."""

    context: int = 4096  # tokens, of each user
    users: int = 1  # at once
    language: str | None = None
    min_speed: float = 5.0  # tokens a second for each user: about as fast as people read
    max_kl: float | None = None
    goal: Goal = "quality"


def read_tokens(text: str) -> int:
    """Read 4k as 4,096, and 5000 as it is."""
    found = _TOKENS.fullmatch(text.strip())
    tokens = int(float(found[1]) * (1024 if found[2] else 1)) if found else 0
    if tokens < 1:
        raise UsageFailure(f"--context {text}: is no number of tokens", "write e.g. 4k or 4096")
    return tokens

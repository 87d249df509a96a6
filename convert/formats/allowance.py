"""What an artifact may weigh, as a recipe says it: formats that choose how each tensor is stored share it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from convert.recipe.size import FileSize, size_in_bytes


def _without_unit(bits: object) -> object:
    """Take 4.5bpw for 4.5."""
    if isinstance(bits, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?bpw", bits):
        return float(bits.removesuffix("bpw"))
    return bits


Bits = Annotated[float, BeforeValidator(_without_unit)]
# Short forms in a recipe, and the options that they are.
SHORT = {r"[0-9.]+bpw": "bpw", r"[0-9.]+[MG]B?": "size"}


def bits(what: str) -> Any:
    """Declare the option for bits a weight."""
    return Field(
        default=None,
        gt=0,
        le=16,
        description=f"One more artifact of so many bits a weight: {what} by what it loses.",
        examples=[4.5],
    )


def size(what: str) -> Any:
    """Declare the option for bytes."""
    return Field(
        default=None,
        description=f"One more artifact of at most this size: {what} by what it loses.",
        examples=["4.5GB"],
    )


@dataclass(frozen=True, slots=True)
class Budget:
    """What an artifact may weigh: so many bits for each weight, or so many bytes."""

    target: str
    bits: float | None = None
    size_bytes: int | None = None

    def bytes_of(self, weight_count: int) -> int:
        """Say how much the tensors may weigh together."""
        return self.size_bytes or int((self.bits or 0) * weight_count / 8)


def budgets(prefix: str, bpw: float | None, size: FileSize | None) -> dict[str, Budget]:
    """Give the budgets by the names of what they make, without the prefix of a format's targets."""
    found = {}
    if bpw is not None:
        name = f"{bpw:g}bpw"
        found[name] = Budget(prefix + name, bits=bpw)
    if size is not None:
        found[size] = Budget(prefix + size, size_bytes=size_in_bytes(size))
    return found

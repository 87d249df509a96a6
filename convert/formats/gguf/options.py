"""What a recipe may say under `targets: gguf:`."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from convert.recipe import TargetOptions
from convert.recipe.model import ExistingFile, unique, wrong


class Quant(StrEnum):
    """The file types that are built, by llama.cpp's names."""

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q8_0 = "Q8_0"
    Q6_K = "Q6_K"
    Q5_K_M = "Q5_K_M"
    Q5_K_S = "Q5_K_S"
    Q5_0 = "Q5_0"
    Q4_K_M = "Q4_K_M"
    Q4_K_S = "Q4_K_S"
    Q4_0 = "Q4_0"
    Q3_K_L = "Q3_K_L"
    Q3_K_M = "Q3_K_M"
    Q3_K_S = "Q3_K_S"
    Q2_K = "Q2_K"
    IQ4_XS = "IQ4_XS"
    IQ4_NL = "IQ4_NL"


# Decimal, as llama-gguf-split's --split-max-size counts.
_UNIT_BYTES = {"M": 1000**2, "G": 1000**3}
_SIZE_PATTERN = "^[1-9][0-9]{0,5}[MG]B?$"


def _check_size(size: str) -> str:
    if not re.fullmatch(_SIZE_PATTERN, size):
        raise wrong(f"{size[:40]!r} is not a size", 'write a whole number and a unit: "500M" or "4G"')
    return size


class GgufOptions(TargetOptions):
    """GGUF files for llama.cpp and its kin, one artifact for each quant."""

    quants: Annotated[tuple[Quant, ...], AfterValidator(unique)] = Field(
        min_length=1,
        description="File types, as llama-quantize names them.",
        examples=[["Q4_K_M", "Q8_0"]],
        json_schema_extra={"uniqueItems": True},
    )
    imatrix: Annotated[Literal["calibration"] | ExistingFile | None, Field(union_mode="left_to_right")] = (
        Field(
            default=None,
            description="An importance matrix: llama.cpp's own file, or `calibration` to make one.",
            examples=["calibration"],
        )
    )
    split_max_size: Annotated[str, AfterValidator(_check_size)] | None = Field(
        default=None,
        description="Split files above this size, in llama.cpp's naming; M is 10^6 bytes, G is 10^9.",
        examples=["4G"],
        json_schema_extra={"pattern": _SIZE_PATTERN},
    )

    @property
    def learns_by(self) -> str | None:
        """An importance matrix of our own making learns from the calibration text."""
        return "imatrix" if self.imatrix == "calibration" else None

    @property
    def imatrix_file(self) -> Path | None:
        """The importance matrix that the recipe names, as written there."""
        return self.imatrix if isinstance(self.imatrix, Path) else None

    @property
    def split_max_bytes(self) -> int | None:
        """The largest split, in bytes."""
        if self.split_max_size is None:
            return None
        digits, unit, _ = re.split("([MG])", self.split_max_size)
        return int(digits) * _UNIT_BYTES[unit]

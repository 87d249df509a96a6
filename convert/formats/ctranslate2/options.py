"""What a recipe may say under `targets: ctranslate2:`."""

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field, JsonValue

from convert.recipe import Short, TargetOptions
from convert.recipe.check import one_or_more, spelled, unique

PREFIX = "ctranslate2-"


class Quantization(StrEnum):
    """What is stored, by CTranslate2's own names: matrices first, then all else."""

    INT8 = "int8"
    INT8_FLOAT32 = "int8_float32"
    INT8_FLOAT16 = "int8_float16"
    INT8_BFLOAT16 = "int8_bfloat16"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT32 = "float32"

    @property
    def has_int8(self) -> bool:
        """Return whether matrices have 8 bits."""
        return self.startswith("int8")

    @property
    def dtype(self) -> str | None:
        """Name the type of all else, as torch does; None for the source's."""
        return {"int8": None}.get(self.value, self.value.removeprefix("int8_"))


_Quantizations = Annotated[
    tuple[Annotated[Quantization, spelled(Quantization)], ...],
    AfterValidator(unique),
    one_or_more(Quantization),
]


class CTranslate2Options(TargetOptions):
    """Folders for CTranslate2, one artifact for each way to store weights, as `ctranslate2-int8`."""

    format_name: ClassVar[str] = "ctranslate2"
    short: ClassVar[Short | None] = Short("quantization", "int8", is_list=True)

    quantization: _Quantizations = Field(
        min_length=1,
        description="How weights are stored, or a list of such: int8 (all but matrices as in the source), "
        "int8_float32, int8_float16, int8_bfloat16, float16, bfloat16, float32.",
        examples=["int8", ["int8", "float16"]],
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name an artifact for each."""
        return {PREFIX + each.value: {"quantization": each.value} for each in self.quantization}

    def closer(self, target: str) -> str:
        """Name what does not round to 8 bits."""
        quantization = Quantization(target.removeprefix(PREFIX))
        is_widest = quantization is Quantization.FLOAT32
        return "" if is_widest else f"take quantization: {'float16' if quantization.has_int8 else 'float32'}"


OPTIONS = CTranslate2Options

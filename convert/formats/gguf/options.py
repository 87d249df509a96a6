"""What a recipe may say under `targets: gguf:`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue

from convert.recipe import Short, TargetOptions
from convert.recipe.check import spelled, unique
from convert.recipe.model import ExistingFile
from convert.recipe.size import FileSize, size_in_bytes

PREFIX = "gguf-"


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
    MXFP4_MOE = "MXFP4_MOE"


class GgufOptions(TargetOptions):
    """GGUF files for llama.cpp and its kin, one artifact for each quant."""

    format_name: ClassVar[str] = "gguf"
    short: ClassVar[Short | None] = Short("quants", "Q4_K_M", is_list=True)

    quants: Annotated[tuple[Annotated[Quant, spelled(Quant)], ...], AfterValidator(unique)] = Field(
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
    mmproj: bool = Field(
        default=False,
        description="Also write llama.cpp's projector file, with which the model reads pictures.",
    )
    split_max_size: FileSize | None = Field(
        default=None,
        description="Split files above this size, in llama.cpp's naming; M is 10^6 bytes, G is 10^9.",
        examples=["4G"],
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name one artifact a quant, as `gguf-Q4_K_M`."""
        imatrix = self.imatrix_file.name if self.imatrix_file else self.learns_by and "calibration"
        return {
            PREFIX + quant.value: {
                "quant": quant.value,
                "imatrix": imatrix,
                "split_max_bytes": self.split_max_bytes,
                **({"mmproj": True} if self.mmproj else {}),
            }
            for quant in self.quants
        }

    @property
    def learns_by(self) -> str | None:
        """Name imatrix where the matrix is to be learned from the calibration text."""
        return "imatrix" if self.imatrix == "calibration" else None

    @property
    def imatrix_file(self) -> Path | None:
        """Return the importance matrix that the recipe names, as written there."""
        return self.imatrix if isinstance(self.imatrix, Path) else None

    @property
    def split_max_bytes(self) -> int | None:
        """Return the largest split, in bytes."""
        return None if self.split_max_size is None else size_in_bytes(self.split_max_size)


OPTIONS = GgufOptions

"""What a recipe may say under `targets: gguf:`."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, model_validator

from convert.formats import allowance
from convert.recipe import Short, TargetOptions
from convert.recipe.check import spelled, unique, wrong
from convert.recipe.explain import did_you_mean
from convert.recipe.model import ExistingFile
from convert.recipe.size import FileSize, size_in_bytes
from convert.writer.codecs.ggml import BLOCK_TYPES

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
    Q5_1 = "Q5_1"
    Q4_K_M = "Q4_K_M"
    Q4_K_S = "Q4_K_S"
    Q4_0 = "Q4_0"
    Q4_1 = "Q4_1"
    Q3_K_L = "Q3_K_L"
    Q3_K_M = "Q3_K_M"
    Q3_K_S = "Q3_K_S"
    Q2_K = "Q2_K"
    Q2_K_S = "Q2_K_S"
    IQ4_XS = "IQ4_XS"
    IQ4_NL = "IQ4_NL"
    IQ3_M = "IQ3_M"
    IQ3_S = "IQ3_S"
    IQ3_XS = "IQ3_XS"
    IQ3_XXS = "IQ3_XXS"
    IQ2_M = "IQ2_M"
    IQ2_S = "IQ2_S"
    IQ2_XS = "IQ2_XS"
    IQ2_XXS = "IQ2_XXS"
    IQ1_M = "IQ1_M"
    IQ1_S = "IQ1_S"
    TQ2_0 = "TQ2_0"
    TQ1_0 = "TQ1_0"
    Q2_0 = "Q2_0"
    Q1_0 = "Q1_0"
    MXFP4_MOE = "MXFP4_MOE"
    NVFP4 = "NVFP4"


TYPES = ("F32", "F16", "BF16", *BLOCK_TYPES)


def _check_type(name: str) -> str:
    """Find a type of a tensor, in capitals or small letters."""
    if name.upper() not in TYPES:
        raise wrong(f"{name!r} is no type of a tensor", did_you_mean(name, TYPES, "write e.g. Q6_K"))
    return name.upper()


Type = Annotated[str, AfterValidator(_check_type), Field(json_schema_extra={"enum": list(TYPES)})]


def _check_expressions(given: dict[str, str]) -> dict[str, str]:
    """Check that all keys are regular expressions."""
    for expression in given:
        try:
            re.compile(expression)
        except re.error as error:
            raise wrong(
                f"{expression!r} is no regular expression: {error}", 'write e.g. {"attn_v": Q6_K}'
            ) from error
    return given


# From each of these, what is next below it: coarser types of fewer bits.
BELOW = {
    Quant.IQ2_M: (
        *(Quant.IQ1_S, Quant.IQ1_M, Quant.Q1_0, Quant.TQ1_0, Quant.Q2_0, Quant.TQ2_0),
        *(Quant.IQ2_XXS, Quant.IQ2_XS, Quant.IQ2_S),
    ),
    Quant.Q3_K_M: (
        *(Quant.IQ2_M, Quant.Q2_K, Quant.Q2_K_S, Quant.Q3_K_S, Quant.IQ3_XXS, Quant.IQ3_XS, Quant.IQ3_S),
    ),
    Quant.Q4_K_M: (
        *(Quant.Q3_K_M, Quant.Q3_K_L, Quant.IQ3_M),
        *(Quant.Q4_0, Quant.Q4_1, Quant.Q4_K_S, Quant.IQ4_XS, Quant.IQ4_NL, Quant.NVFP4),
    ),
    Quant.Q5_K_M: (Quant.Q4_K_M, Quant.Q5_0, Quant.Q5_1, Quant.Q5_K_S),
    Quant.Q6_K: (Quant.Q5_K_M,),
    Quant.Q8_0: (Quant.Q6_K, Quant.MXFP4_MOE),
    Quant.F16: (Quant.Q8_0,),
}
LADDER = tuple(BELOW)
EXACT = {
    Quant.F16: "take BF16 where the source is of that type, or F32",
    Quant.BF16: "take F32, and report it if that fails too: it rounds nothing",
    Quant.F32: "report it: it rounds nothing",
}


class GgufOptions(TargetOptions):
    """GGUF files for llama.cpp and its kin, one artifact for each quant."""

    format_name: ClassVar[str] = "gguf"
    short: ClassVar[Short | None] = Short("quants", "Q4_K_M", is_list=True, others=allowance.SHORT)

    quants: Annotated[tuple[Annotated[Quant, spelled(Quant)], ...], AfterValidator(unique)] = Field(
        default=(),
        min_length=1,
        description="File types, as llama-quantize names them.",
        examples=[["Q4_K_M", "Q8_0"]],
        json_schema_extra={"uniqueItems": True},
    )
    bpw: allowance.Bits | None = allowance.bits("a type for each tensor")
    size: FileSize | None = allowance.size("a type for each tensor")
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
    tensor_types: Annotated[dict[str, Type], AfterValidator(_check_expressions)] = Field(
        default={},
        description="Types of single tensors: the first expression that is found in a tensor's name decides, "
        "as with llama-quantize's --tensor-type.",
        examples=[{"attn_v": "Q6_K"}],
    )
    output_type: Type | None = Field(
        default=None, description="The type of the output head, whatever the quant.", examples=["Q8_0"]
    )
    embedding_type: Type | None = Field(
        default=None, description="The type of the token embedding, whatever the quant.", examples=["Q8_0"]
    )
    leave_output_tensor: bool = Field(default=False, description="Keep the output head as the source has it.")
    rounding: Literal["plain", "gptq"] = Field(
        default="plain",
        description="How tensors of the types Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and IQ4_NL are rounded: as "
        "llama.cpp does, or so that what one column loses on the calibration text others make up for.",
        examples=["gptq"],
    )
    pure: bool = Field(
        default=False, description="Give all tensors one type, instead of the quant's mixture."
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.quants and not self.budgets:
            raise wrong("asks for nothing", "write e.g. quants: [Q4_K_M, Q8_0], or bpw: 4.5")
        if self.pure and self.budgets:
            raise wrong("pure: a budget chooses a type for each tensor", "leave one of them out")
        return self

    @property
    def budgets(self) -> dict[str, allowance.Budget]:
        """Give the budgets by the names of what they make."""
        return allowance.budgets("gguf-", self.bpw, self.size)

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name one artifact a quant, as `gguf-Q4_K_M`."""
        imatrix = self.imatrix.name if isinstance(self.imatrix, Path) else self.imatrix
        return {
            PREFIX + name: {
                "quant": name,
                "imatrix": imatrix,
                "split_max_bytes": self.split_max_bytes,
                **self._wishes(),
                **({"mmproj": True} if self.mmproj else {}),
                **({"rounding": self.rounding} if self.rounding == "gptq" else {}),
            }
            for name in (*(quant.value for quant in self.quants), *self.budgets)
        }

    def _wishes(self) -> dict[str, JsonValue]:
        """Dump what is said of single tensors; nothing where nothing is."""
        said = self.model_dump(
            mode="json",
            include={"tensor_types", "output_type", "embedding_type", "leave_output_tensor", "pure"},
            exclude_defaults=True,
        )
        # As a list: the order of expressions decides.
        types = said.get("tensor_types")
        return {**said, "tensor_types": [list(each) for each in types.items()]} if types else said

    @property
    def learns_by(self) -> str | None:
        """Name the option that needs the calibration text: to learn a matrix from, or to round by."""
        if self.imatrix == "calibration":
            return "imatrix"
        return "rounding" if self.rounding == "gptq" else None

    def closer(self, target: str) -> str:
        """Name the next better type, and an importance matrix where none is used and rounding is coarse."""
        name = target.removeprefix(PREFIX)
        if name in self.budgets:
            return "allow more bits, or more bytes"
        quant = Quant(name)
        better = next((each for each in LADDER if quant in BELOW[each]), None)
        if better is None:
            return EXACT.get(quant, "")
        is_coarse = better not in (Quant.Q8_0, Quant.F16)
        matrix = ", or an importance matrix (imatrix: calibration)" if is_coarse and not self.imatrix else ""
        return f"take {better}{matrix}"

    @property
    def imatrix_file(self) -> Path | None:
        """Return the importance matrix that the recipe names, as written there."""
        return self.imatrix if isinstance(self.imatrix, Path) else None

    @property
    def split_max_bytes(self) -> int | None:
        """Return the largest split, in bytes."""
        return None if self.split_max_size is None else size_in_bytes(self.split_max_size)


OPTIONS = GgufOptions

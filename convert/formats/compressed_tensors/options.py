"""What a recipe may say under `targets: compressed-tensors:`."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, field_validator, model_validator

from convert.formats import allowance
from convert.formats.hf.options import Sharded
from convert.recipe import Short
from convert.recipe.check import one_or_more, spelled, unique, wrong
from convert.recipe.size import FileSize

NAME = "compressed-tensors"
PREFIX = f"{NAME}-"


class Scheme(StrEnum):
    """How matrices are stored, and what activations are rounded to where they run."""

    FP8 = "fp8"
    FP8_BLOCK = "fp8_block"
    W8A8 = "w8a8"
    W4A16 = "w4a16"
    W8A16 = "w8a16"
    NVFP4A16 = "nvfp4a16"
    MXFP4 = "mxfp4"
    MXFP8 = "mxfp8"


# Whose groups and zero points a recipe may choose.
GROUPED = frozenset({Scheme.W4A16, Scheme.W8A16})
# Whose scales may be searched for, and codes chosen by what was learned of a text.
SEARCHED = GROUPED | {Scheme.NVFP4A16, Scheme.MXFP4}
# Among which a budget chooses, the coarser first: one kernel of vLLM's reads both.
MIXED = (Scheme.W4A16, Scheme.W8A16)


_Schemes = Annotated[
    tuple[Annotated[Scheme, spelled(Scheme)], ...],
    AfterValidator(unique),
    one_or_more(Scheme),
]


class CompressedTensorsOptions(Sharded):
    """Checkpoints for vLLM and SGLang, one artifact a scheme, as `compressed-tensors-fp8`."""

    format_name: ClassVar[str] = NAME
    short: ClassVar[Short | None] = Short("scheme", "fp8", is_list=True, others=allowance.SHORT)

    scheme: _Schemes = Field(
        default=(),
        min_length=1,
        description="How matrices are stored, or a list of such: fp8 and w8a8 with a scale a row, fp8_block, "
        "w4a16 and w8a16 in groups, nvfp4a16, mxfp4, mxfp8.",
        examples=["fp8", ["fp8", "w4a16"]],
    )
    bpw: allowance.Bits | None = allowance.bits("w4a16, w8a16 or the source's numbers for each matrix")
    size: FileSize | None = allowance.size("w4a16, w8a16 or the source's numbers for each matrix")
    group_size: Literal[32, 64, 128, -1] = Field(
        default=128,
        description="Weights of a row that share a scale, of w4a16 and w8a16; -1 for all of them.",
    )
    symmetric: bool = Field(
        default=True, description="Whether w4a16 and w8a16 do without a zero point of each group."
    )
    rounding: Literal["plain", "search", "gptq"] = Field(
        default="plain",
        description="How w4a16, w8a16, nvfp4a16 and mxfp4 are rounded: as the reference does, or by the "
        "scale of each group that loses least of several: closer, and slower; or gptq, such that what one "
        "column loses on the calibration text others make up for: closest.",
        examples=["search", "gptq"],
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name an artifact for each scheme."""
        groups: dict[str, JsonValue] = {"group_size": self.group_size, "symmetric": self.symmetric}
        # Only where it is asked for: else artifacts made before it could be said would be made again.
        rounding: dict[str, JsonValue] = {"rounding": self.rounding} if self.rounding != "plain" else {}
        return {
            PREFIX + name: {
                "scheme": name,
                **(groups if name in self.budgets or name in GROUPED else {}),
                "max_shard_bytes": self.max_shard_bytes,
                **(rounding if name in self.budgets or name in SEARCHED else {}),
            }
            for name in (*(scheme.value for scheme in self.scheme), *self.budgets)
        }

    @property
    def budgets(self) -> dict[str, allowance.Budget]:
        """Give the budgets by the names of what they make."""
        return allowance.budgets(PREFIX, self.bpw, self.size)

    def scheme_of(self, target: str) -> Scheme | None:
        """Find the scheme that a target has; None where a budget decides."""
        name = target.removeprefix(PREFIX)
        return None if name in self.budgets else Scheme(name)

    def is_searched(self, scheme: Scheme) -> bool:
        """Tell whether each group's scale is searched for."""
        return self.rounding == "search" and scheme in SEARCHED

    @property
    def learns_by(self) -> str | None:
        """Name the option that needs the calibration text."""
        return "rounding" if self.rounding == "gptq" else None

    def closer(self, target: str) -> str:
        """Name the search for scales, and a scheme with more bits."""
        scheme = self.scheme_of(target)
        if scheme is None:
            return "allow more bits, or more bytes"
        if scheme not in SEARCHED:
            return "take scheme: w8a16" if scheme is not Scheme.MXFP8 else "take scheme: fp8"
        search = "rounding: search, or " if self.rounding == "plain" else ""
        return f"take {search}scheme: {'fp8' if scheme is Scheme.W8A16 else 'w8a16'}"

    @field_validator("group_size", "symmetric", "rounding")
    @classmethod
    def _reaches_an_artifact(cls, value: object, info: ValidationInfo) -> object:
        able = SEARCHED if info.field_name == "rounding" else GROUPED
        asked = info.data.get("scheme", able)
        if able & set(asked) or info.data.get("bpw") or info.data.get("size") or not asked:
            return value
        names = " and ".join(sorted(able))
        raise wrong(
            f"is of {names}, and {' and '.join(asked)} would be built without it",
            "leave it out, or add one of these to scheme",
        )

    @field_validator("symmetric")
    @classmethod
    def _is_read_again(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001
        if not value and (info.data.get("bpw") or info.data.get("size")):
            # It widens zero points by one scheme for the whole model, and says nothing of others.
            why = "Transformers reads no budget with zero points"
            raise wrong(why, "leave it out, or leave the budget out")
        return value

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.scheme and not self.budgets:
            raise wrong("asks for nothing", "write e.g. scheme: [fp8, w4a16], or bpw: 6")
        return self


OPTIONS = CompressedTensorsOptions

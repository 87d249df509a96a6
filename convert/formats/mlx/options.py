"""What a recipe may say under `targets: mlx:`."""

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, field_validator, model_validator

from convert.formats import allowance
from convert.formats.hf.options import Sharded, shard_size
from convert.recipe import Short
from convert.recipe.check import spelled, unique, wrong
from convert.recipe.size import FileSize

PREFIX = "mlx-"
AFFINE = re.compile(r"(\d)bit")


class Quant(StrEnum):
    """What matrices become, as repos for MLX are named."""

    BITS_2 = "2bit"
    BITS_3 = "3bit"
    BITS_4 = "4bit"
    BITS_5 = "5bit"
    BITS_6 = "6bit"
    BITS_8 = "8bit"
    MXFP4 = "mxfp4"
    NVFP4 = "nvfp4"
    MXFP8 = "mxfp8"
    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"

    @property
    def bits(self) -> int | None:
        """Return the bits of MLX's affine mode; None for others."""
        found = AFFINE.fullmatch(self)
        return int(found[1]) if found else None

    @property
    def is_searchable(self) -> bool:
        """Return whether scales may be searched for: 8 bits of float are too many to try."""
        return not (self.is_plain or self is Quant.MXFP8)

    @property
    def is_plain(self) -> bool:
        """Return whether nothing is quantized."""
        return self in (Quant.BF16, Quant.FP16, Quant.FP32)


class MlxOptions(Sharded):
    """Checkpoints for MLX on Apple silicon, one artifact for each quant."""

    format_name: ClassVar[str] = "mlx"
    short: ClassVar[Short | None] = Short("quants", "4bit", is_list=True, others=allowance.SHORT)

    quants: Annotated[tuple[Annotated[Quant, spelled(Quant)], ...], AfterValidator(unique)] = Field(
        default=(),
        min_length=1,
        description="What matrices become: 2bit to 8bit, mxfp4, nvfp4, mxfp8; or plain bf16, fp16, fp32.",
        examples=[["4bit", "8bit"]],
        json_schema_extra={"uniqueItems": True},
    )
    bpw: allowance.Bits | None = allowance.bits("from 2bit to 8bit for each matrix")
    size: FileSize | None = allowance.size("from 2bit to 8bit for each matrix")
    group_size: Literal[32, 64, 128] = Field(
        default=64,
        description="Weights that share a scale and a bias, of 2bit to 8bit; smaller ones are closer.",
    )
    dtype: Literal["source", "bf16", "fp16", "fp32"] = Field(
        default="source",
        description="What quantized artifacts compute in: the type of scales and of all that is not packed.",
        examples=["bf16"],
    )
    rounding: Literal["plain", "search", "gptq"] = Field(
        default="plain",
        description="How 2bit to 8bit, mxfp4 and nvfp4 are rounded: as MLX does, or by the scale of each "
        "group that loses least of several: closer, and slower; or gptq, such that what one column loses "
        "on the calibration text others make up for: closest.",
        examples=["search", "gptq"],
    )
    max_shard_size: FileSize = shard_size("5G")  # as mlx_lm.convert

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name one artifact a quant, as `mlx-4bit`."""
        # Only where it is asked for: else artifacts made before it could be said would be made again.
        rounding: dict[str, JsonValue] = {"rounding": self.rounding} if self.rounding != "plain" else {}
        whole: dict[str, dict[str, JsonValue]] = {
            PREFIX + quant.value: {
                "quant": quant.value,
                **({"bits": quant.bits, "group_size": self.group_size} if quant.bits else {}),
                "dtype": quant.value if quant.is_plain else self.dtype,
                "max_shard_bytes": self.max_shard_bytes,
                **(rounding if quant.is_searchable else {}),
            }
            for quant in self.quants
        }
        mixed: dict[str, dict[str, JsonValue]] = {
            PREFIX + name: {
                "quant": name,
                "group_size": self.group_size,
                "dtype": self.dtype,
                "max_shard_bytes": self.max_shard_bytes,
                **rounding,
            }
            for name in self.budgets
        }
        return whole | mixed

    @property
    def budgets(self) -> dict[str, allowance.Budget]:
        """Give the budgets by the names of what they make."""
        return allowance.budgets(PREFIX, self.bpw, self.size)

    def quant_of(self, target: str) -> Quant | None:
        """Find the quant that a target has; None where a budget decides."""
        name = target.removeprefix(PREFIX)
        return None if name in self.budgets else Quant(name)

    def is_searched(self, quant: Quant | None) -> bool:
        """Tell whether each group's scale is searched for."""
        return self.rounding == "search" and (quant is None or quant.is_searchable)

    def closer(self, target: str) -> str:
        """Name the search for scales, and the quant with more bits."""
        quant = self.quant_of(target)
        if quant is None:
            return "allow more bits, or more bytes"
        wider = "" if quant.is_plain else "fp32" if quant is Quant.BITS_8 else "8bit"
        if quant in (Quant.BITS_2, Quant.BITS_3):
            wider = "4bit"
        search = "rounding: search, or " if quant.is_searchable and self.rounding == "plain" else ""
        return f"take {search}quants: [{wider}]" if wider else ""

    @property
    def learns_by(self) -> str | None:
        """Name the option that needs the calibration text."""
        return "rounding" if self.rounding == "gptq" else None

    @field_validator("group_size", "dtype", "rounding")
    @classmethod
    def _reaches_an_artifact(cls, value: object, info: ValidationInfo) -> object:
        asked: tuple[Quant, ...] = info.data.get("quants", ())
        if info.data.get("bpw") or info.data.get("size"):
            return value
        which, able = {
            "group_size": ("2bit to 8bit", [quant for quant in asked if quant.bits]),
            "dtype": ("what is quantized", [quant for quant in asked if not quant.is_plain]),
            "rounding": ("2bit to 8bit, mxfp4 and nvfp4", [quant for quant in asked if quant.is_searchable]),
        }[info.field_name or ""]
        if able or not asked:
            return value
        raise wrong(f"is of {which}, and {' and '.join(asked)} would be built without it", "leave it out")

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.quants and not self.budgets:
            raise wrong("asks for nothing", "write e.g. quants: [4bit, 8bit], or bpw: 4.5")
        return self


OPTIONS = MlxOptions

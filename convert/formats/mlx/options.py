"""What a recipe may say under `targets: mlx:`."""

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, JsonValue, ValidationInfo, field_validator

from convert.recipe import Short, TargetOptions
from convert.recipe.check import spelled, unique, wrong
from convert.recipe.size import FileSize, size_in_bytes

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
    def is_plain(self) -> bool:
        """Return whether nothing is quantized."""
        return self in (Quant.BF16, Quant.FP16, Quant.FP32)


class MlxOptions(TargetOptions):
    """Checkpoints for MLX on Apple silicon, one artifact for each quant."""

    format_name: ClassVar[str] = "mlx"
    short: ClassVar[Short | None] = Short("quants", "4bit", is_list=True)

    quants: Annotated[tuple[Annotated[Quant, spelled(Quant)], ...], AfterValidator(unique)] = Field(
        min_length=1,
        description="What matrices become: 2bit to 8bit, mxfp4, nvfp4, mxfp8; or plain bf16, fp16, fp32.",
        examples=[["4bit", "8bit"]],
        json_schema_extra={"uniqueItems": True},
    )
    group_size: Literal[32, 64, 128] = Field(
        default=64,
        description="Weights that share a scale and a bias, of 2bit to 8bit; smaller ones are closer.",
    )
    dtype: Literal["source", "bf16", "fp16", "fp32"] = Field(
        default="source",
        description="What quantized artifacts compute in: the type of scales and of all that is not packed.",
        examples=["bf16"],
    )
    max_shard_size: FileSize = Field(
        default="5G",
        description="Split the weights above this size; M is 10^6 bytes, G is 10^9.",
        examples=["2G"],
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name one artifact a quant, as `mlx-4bit`."""
        return {
            PREFIX + quant.value: {
                "quant": quant.value,
                **({"bits": quant.bits, "group_size": self.group_size} if quant.bits else {}),
                "dtype": quant.value if quant.is_plain else self.dtype,
                "max_shard_bytes": self.max_shard_bytes,
            }
            for quant in self.quants
        }

    @property
    def max_shard_bytes(self) -> int:
        """Return the largest file of weights, in bytes."""
        return size_in_bytes(self.max_shard_size)

    @field_validator("group_size", "dtype")
    @classmethod
    def _reaches_an_artifact(cls, value: object, info: ValidationInfo) -> object:
        asked: tuple[Quant, ...] = info.data.get("quants", ())
        is_group = info.field_name == "group_size"
        if not asked or any(quant.bits if is_group else not quant.is_plain for quant in asked):
            return value
        which = "2bit to 8bit" if is_group else "what is quantized"
        raise wrong(f"is of {which}, and {' and '.join(asked)} would be built without it", "leave it out")


OPTIONS = MlxOptions

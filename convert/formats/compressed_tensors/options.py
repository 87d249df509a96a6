"""What a recipe may say under `targets: compressed-tensors:`."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo, field_validator

from convert.recipe import Short, TargetOptions
from convert.recipe.check import spelled, unique, wrong
from convert.recipe.size import FileSize, size_in_bytes

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


def _listed(value: object) -> object:
    """Take one value as a list of one."""
    return tuple(value) if isinstance(value, list | tuple) else (value,)


_Schemes = Annotated[
    tuple[Annotated[Scheme, spelled(Scheme)], ...],
    AfterValidator(unique),
    BeforeValidator(_listed, json_schema_input_type=Scheme | tuple[Scheme, ...]),
]


class CompressedTensorsOptions(TargetOptions):
    """Checkpoints for vLLM and SGLang, one artifact a scheme, as `compressed-tensors-fp8`."""

    format_name: ClassVar[str] = NAME
    short: ClassVar[Short | None] = Short("scheme", "fp8", is_list=True)

    scheme: _Schemes = Field(
        min_length=1,
        description="How matrices are stored, or a list of such: fp8 and w8a8 with a scale a row, fp8_block, "
        "w4a16 and w8a16 in groups, nvfp4a16, mxfp4, mxfp8.",
        examples=["fp8", ["fp8", "w4a16"]],
    )
    group_size: Literal[32, 64, 128, -1] = Field(
        default=128,
        description="Weights of a row that share a scale, of w4a16 and w8a16; -1 for all of them.",
    )
    symmetric: bool = Field(
        default=True, description="Whether w4a16 and w8a16 do without a zero point of each group."
    )
    max_shard_size: FileSize = Field(
        default="4G",
        description="Split the weights above this size; M is 10^6 bytes, G is 10^9.",
        examples=["2G"],
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name an artifact for each scheme."""
        groups: dict[str, JsonValue] = {"group_size": self.group_size, "symmetric": self.symmetric}
        return {
            PREFIX + scheme.value: {
                "scheme": scheme.value,
                **(groups if scheme in GROUPED else {}),
                "max_shard_bytes": self.max_shard_bytes,
            }
            for scheme in self.scheme
        }

    @property
    def max_shard_bytes(self) -> int:
        """Return the largest file of weights, in bytes."""
        return size_in_bytes(self.max_shard_size)

    @field_validator("group_size", "symmetric")
    @classmethod
    def _reaches_an_artifact(cls, value: object, info: ValidationInfo) -> object:
        asked = info.data.get("scheme", GROUPED)
        if GROUPED & set(asked):
            return value
        raise wrong(
            f"is of w4a16 and w8a16, and {' and '.join(asked)} would be built without it",
            "leave it out, or add w4a16 or w8a16 to scheme",
        )


OPTIONS = CompressedTensorsOptions

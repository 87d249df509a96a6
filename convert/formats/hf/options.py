"""What a recipe may say under `targets: hf:`."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from convert.recipe import Short, TargetOptions
from convert.recipe.size import FileSize, size_in_bytes


class HfOptions(TargetOptions):
    """The checkpoint itself, as Transformers' own classes read it: safetensors, without any code."""

    format_name: ClassVar[str] = "hf"
    short: ClassVar[Short | None] = Short("dtype")

    dtype: Literal["source", "bf16", "fp16", "fp32"] = Field(
        default="source", description="What the weights are stored in.", examples=["bf16"]
    )
    max_shard_size: FileSize = Field(
        default="4G",
        description="Split the weights above this size; M is 10^6 bytes, G is 10^9.",
        examples=["2G"],
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name the one artifact."""
        return {"hf": {"dtype": self.dtype, "max_shard_bytes": self.max_shard_bytes}}

    @property
    def max_shard_bytes(self) -> int:
        """Return the largest file of weights, in bytes."""
        return size_in_bytes(self.max_shard_size)


OPTIONS = HfOptions

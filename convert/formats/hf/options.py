"""What a recipe may say under `targets: hf:`."""

from typing import Any, ClassVar, Literal

from pydantic import Field, JsonValue

from convert.recipe import Short, TargetOptions
from convert.recipe.size import FileSize, size_in_bytes


def shard_size(default: str) -> Any:
    """Declare the largest file of weights, which formats of safetensors have in common."""
    return Field(
        default=default,
        description="Split the weights above this size; M is 10^6 bytes, G is 10^9.",
        examples=["2G"],
    )


class Sharded(TargetOptions):
    """What formats of safetensors have in common."""

    max_shard_size: FileSize = shard_size("4G")

    @property
    def max_shard_bytes(self) -> int:
        """Return the largest file of weights, in bytes."""
        return size_in_bytes(self.max_shard_size)


class HfOptions(Sharded):
    """The checkpoint itself, as Transformers' own classes read it: safetensors, without any code."""

    format_name: ClassVar[str] = "hf"
    short: ClassVar[Short | None] = Short("dtype")

    dtype: Literal["source", "bf16", "fp16", "fp32"] = Field(
        default="source", description="What the weights are stored in.", examples=["bf16"]
    )

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name the one artifact."""
        return {"hf": {"dtype": self.dtype, "max_shard_bytes": self.max_shard_bytes}}


OPTIONS = HfOptions

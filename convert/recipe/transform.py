"""What a recipe may say under `transform:`."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_serializer, model_validator

from convert.recipe.check import wrong
from convert.recipe.strict import Strict


class Transform(Strict):
    """How weights are rewritten before they are rounded; the model computes the same."""

    scales: Literal["awq"] | None = Field(
        default=None,
        description="Multiply the channels that the calibration text weighs most, and divide them in the "
        "norm or matrix before, as AWQ does: they lose less where they are rounded to nearest.",
        examples=["awq"],
    )
    rotation: Literal["hadamard"] | None = Field(
        default=None,
        description="Rotate the hidden states by a Hadamard matrix, before any scales, so that no channel is "
        "far larger than others. A head that is tied to the embedding becomes a separate matrix.",
        examples=["hadamard"],
    )
    seed: int = Field(default=0, ge=0, description="Chooses the signs of the rotation.")

    @model_validator(mode="after")
    def _says_what(self) -> Self:
        if not (self.rotation or (self.scales and "seed" not in self.model_fields_set)):
            what = "a seed, and no rotation" if self.scales else "nothing to do"
            raise wrong(what, "write e.g. transform: {rotation: hadamard}")
        return self

    @model_serializer
    def _said(self) -> dict[str, JsonValue]:
        """Write down what is asked for, and nothing else."""
        rotated: dict[str, JsonValue] = {"rotation": self.rotation, "seed": self.seed}
        return {**({"scales": self.scales} if self.scales else {}), **(rotated if self.rotation else {})}

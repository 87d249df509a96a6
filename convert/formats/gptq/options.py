"""What a recipe may say under `targets: gptq:`."""

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from convert.recipe import Short, TargetOptions

# What the kernels of vLLM, SGLang and GPTQModel know; -1 is a scale for a whole row.
GROUP_SIZES = (32, 64, 128, -1)


class GptqModelOptions(TargetOptions):
    """Options of both methods."""

    short: ClassVar[Short | None] = Short("bits")

    group_size: int = Field(
        default=128,
        ge=-1,
        le=1024,
        description="Weights of a row that share a scale: 32, 64 or 128, or -1 for all of them.",
        examples=[128],
    )
    sym: bool = Field(default=True, description="Whether the steps lie evenly around zero.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto", description="Where the work is done; auto takes a GPU where torch finds one."
    )

    @property
    def learns_by(self) -> str:
        """Return "": no option, but the target itself needs the calibration text."""
        return ""

    def closer(self, target: str) -> str:  # noqa: ARG002 - there is one
        """Name smaller groups, and more text to learn from."""
        least = GROUP_SIZES[0]
        smaller = "" if self.group_size == least else f"group_size: {least}, or "
        return f"take {smaller}more calibration samples"


class GptqOptions(GptqModelOptions):
    """GPTQ weights for vLLM, SGLang, TGI and Transformers."""

    format_name: ClassVar[str] = "gptq"

    bits: Literal[4, 8] = Field(default=4, description="Bits of a weight.", examples=[4])
    desc_act: bool = Field(
        default=False,
        description="Whether columns are quantized in the order of their activations: closer, and slower.",
    )
    damp: float = Field(
        default=0.01,
        gt=0,
        lt=1,
        description="Share of the Hessian's mean diagonal that is added to it.",
        examples=[0.01],
    )
    engine: Literal["gptqmodel", "native"] | None = Field(
        default=None,
        description="Who makes it: modelwright itself, on a CPU and without torch, or GPTQModel; "
        "unless it is said, GPTQModel for device: cuda, sym: false and desc_act: true alone.",
        examples=["gptqmodel"],
    )

    @property
    def is_native(self) -> bool:
        """Check whether no tool is needed; the machine makes no difference, as it would make other bytes."""
        if self.engine is None:
            return self.sym and not self.desc_act and self.device != "cuda"
        return self.engine == "native"

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name the one artifact; without the engine where that is GPTQModel, as before it could be said."""
        said = self.model_dump(mode="json", exclude={"engine"})
        return {self.format_name: {**said, "engine": "native"} if self.is_native else said}

    def closer(self, target: str) -> str:
        """Name the eight bits before what both methods have."""
        return "take bits: 8" if self.bits == 4 else super().closer(target)


OPTIONS = GptqOptions

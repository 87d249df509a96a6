"""What a recipe may say under `targets: onnx:`."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    JsonValue,
    ValidationInfo,
    field_validator,
    model_validator,
)

from convert.recipe import Short, TargetOptions
from convert.recipe.check import one_or_more, spelled, unique, wrong


class Precision(StrEnum):
    """What the matrices are stored in."""

    INT4 = "int4"
    INT8 = "int8"
    FP16 = "fp16"
    FP32 = "fp32"


class Provider(StrEnum):
    """Where the model is to run: it decides what the graph computes in."""

    CPU = "cpu"  # float32, whatever the weights are stored in
    CUDA = "cuda"  # float16


class Folder(StrEnum):
    """Who finds its way in the folder."""

    GENAI = "genai"
    TRANSFORMERS_JS = "transformers.js"


Stored = Literal["int4", "int8", "native"]
# What is packed in blocks; the rest has no block, no scale and no part that is stored apart.
BITS: dict[str, Literal[4, 8]] = {Precision.INT4: 4, Precision.INT8: 8}


PREFIX = "onnx-"
# Nats of Kullback-Leibler divergence that the matrices of mixed artifacts may lose, as predicted.
MOST_LOSS = 0.02


def parts(target: str) -> tuple[Precision, Provider]:
    """Read a target's name."""
    precision, _, provider = target.removeprefix(PREFIX).partition("-")
    return Precision(precision), Provider(provider)


_Precisions = Annotated[
    tuple[Annotated[Precision, spelled(Precision)], ...],
    AfterValidator(unique),
    one_or_more(Precision),
]
_Providers = Annotated[
    tuple[Provider, ...],
    AfterValidator(unique),
    one_or_more(Provider),
]


class OnnxOptions(TargetOptions):
    """Folders for onnxruntime-genai: one artifact a precision and provider, as `onnx-int4-cpu`."""

    format_name: ClassVar[str] = "onnx"
    short: ClassVar[Short | None] = Short(
        "precision", "int4", is_list=True, others={r"genai|transformers\.js": "layout"}
    )

    precision: _Precisions = Field(
        min_length=1,
        description="How matrices are stored, or a list of such: int4, int8, fp16, fp32.",
        examples=["int4", ["int4", "fp16"]],
    )
    provider: _Providers = Field(
        default=(Provider.CPU,),
        min_length=1,
        description="Where it is to run, or a list of such: cpu computes in 32 bits, cuda in 16.",
        examples=["cpu", ["cpu", "cuda"]],
    )
    layout: Folder = Field(
        default=Folder.GENAI,
        description="Whose folders these are: genai for onnxruntime-genai, transformers.js for that library, "
        "where cpu and cuda mean 32 and 16 bits.",
        examples=["transformers.js"],
    )
    block_size: Literal[32, 64, 128] = Field(
        default=32,
        description="Weights that share a scale, of int4 and int8; larger ones are faster and coarser.",
    )
    symmetric: bool | None = Field(
        default=None,
        description="Whether int4 and int8 do without a zero point of each block; unless it is said, all "
        "but the 4 bits of `mixed` artifacts.",
        examples=[True],
    )
    accuracy_level: Annotated[int, Field(ge=0, le=4)] | None = Field(
        default=None,
        description="MatMulNBits' own: 1 computes in float32, 4 rounds activations to 8 bits; "
        "4 on cpu and 0, which leaves it to the runtime, on cuda.",
        examples=[4],
    )
    head: Stored | None = Field(
        default=None,
        description="How int4 and int8 artifacts store the output matrix; unless it is said, as the others, "
        "and as int8 with `mixed` or `rounding: gptq`.",
        examples=["int8"],
    )
    embedding: Stored | None = Field(
        default=None,
        description="How int4 and int8 artifacts store the embedding; native keeps the source's own "
        "numbers, and is what all but `mixed` artifacts for cpu have unless it is said.",
        examples=["native"],
    )
    mixed: bool | None = Field(
        default=None,
        description="Whether int4 artifacts store in 8 bits the matrices that lose most by 4, as many as "
        "bring the predicted loss to 0.02 nats, and the head; as onnxruntime-genai's own builder writes "
        "them where not. Unless it is said, those for genai do.",
        examples=[False],
    )
    rounding: Literal["plain", "gptq"] = Field(
        default="plain",
        description="How int4 and int8 are rounded: each weight to the nearest, or so that what one column "
        "loses on the calibration text others make up for.",
        examples=["gptq"],
    )

    @property
    def learns_by(self) -> str | None:
        """Name the option that needs the calibration text."""
        return "rounding" if self.rounding == "gptq" else None

    def by_target(self) -> dict[str, dict[str, JsonValue]]:
        """Name an artifact for each precision and provider."""
        return {
            f"{PREFIX}{precision}-{provider}": {
                "precision": precision.value,
                "provider": provider.value,
                **({} if self.layout is Folder.GENAI else {"layout": self.layout.value}),
                **(self._packing(precision, provider) if precision.value in BITS else {}),
            }
            for provider in self.provider
            for precision in self.precision
        }

    def closer(self, target: str) -> str:
        """Name the next better precision."""
        precision, provider = parts(target)
        if precision is Precision.INT4:
            smaller = ", or block_size: 32" if self.block_size > 32 else ""
            head = ", or head: int8" if self.head in (None, "int4") else ""
            return f"take precision: int8{smaller}{head}"
        if precision is Precision.INT8:
            return "take precision: fp16"
        is_widest = precision is Precision.FP32 or provider is Provider.CUDA
        return "" if is_widest else "take precision: fp32"

    def level(self, provider: Provider) -> int:
        """Choose MatMulNBits' accuracy level."""
        if self.accuracy_level is not None:
            return self.accuracy_level
        return 4 if provider is Provider.CPU else 0

    def head_of(self, precision: Precision) -> Stored:
        """Choose how the output matrix is stored."""
        if self.head is not None:
            return self.head
        is_fine = self.learns_by or self.is_mixed(precision) or precision is Precision.INT8
        return "int8" if is_fine else "int4"

    def embedding_of(self, precision: Precision, provider: Provider) -> Stored:
        """Choose how the embedding is stored: its 8 bits are looked up on a CPU alone, not in browsers."""
        if self.embedding is not None:
            return self.embedding
        can_look_up = provider is Provider.CPU and self.layout is Folder.GENAI
        return "int8" if self.is_mixed(precision) and can_look_up else "native"

    def is_mixed(self, precision: Precision) -> bool:
        """Tell whether some matrices have 8 bits and others 4."""
        if precision is not Precision.INT4:
            return False
        return self.layout is Folder.GENAI if self.mixed is None else self.mixed

    def is_symmetric(self, precision: Precision) -> bool:
        """Tell whether blocks have no zero points."""
        return not self.is_mixed(precision) if self.symmetric is None else self.symmetric

    def _packing(self, precision: Precision, provider: Provider) -> dict[str, JsonValue]:
        return {
            "block_size": self.block_size,
            "symmetric": self.is_symmetric(precision),
            "accuracy_level": self.level(provider),
            "head": self.head_of(precision),
            "embedding": self.embedding_of(precision, provider),
            # Only where they are asked for: else artifacts made before it could be said would be made again.
            **({"rounding": self.rounding} if self.learns_by else {}),
            **({"mixed": MOST_LOSS} if self.is_mixed(precision) else {}),
        }

    @field_validator("block_size", "symmetric", "accuracy_level", "head", "embedding", "mixed", "rounding")
    @classmethod
    def _reaches_an_artifact(cls, value: object, info: ValidationInfo) -> object:
        asked = info.data.get("precision", BITS)
        if value is None or any(precision in BITS for precision in asked):
            return value
        raise wrong(
            f"is of int4 and int8, and {' and '.join(asked)} would be built without it",
            "leave it out, or add int4 or int8 to precision",
        )

    @model_validator(mode="after")
    def _can_mix(self) -> Self:
        if self.mixed and Precision.INT4 not in self.precision:
            raise wrong("only int4 can be mixed with int8", "remove mixed, or add int4 to precision")
        return self

    @model_validator(mode="after")
    def _can_run(self) -> Self:
        if Precision.FP32 in self.precision and Provider.CUDA in self.provider:
            raise wrong(
                "fp32 for cuda cannot be built: onnxruntime's attention runs in 16 bits there",
                "take fp16 for cuda; fp32 is for cpu",
            )
        if (
            self.layout is Folder.TRANSFORMERS_JS
            and Precision.INT8 in self.precision
            and Provider.CUDA in self.provider
        ):
            raise wrong(
                "int8 in 16 bits cannot be built: transformers.js has no name for it",
                "take int4 or fp16 for cuda; int8 is for cpu",
            )
        return self


OPTIONS = OnnxOptions

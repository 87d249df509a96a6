"""What a recipe may say under `targets: awq:`."""

from typing import ClassVar, Literal

from pydantic import Field

from convert.formats.gptq.options import GptqModelOptions


class AwqOptions(GptqModelOptions):
    """AWQ weights for vLLM, SGLang, TGI and Transformers, made by GPTQModel."""

    format_name: ClassVar[str] = "awq"

    bits: Literal[4] = Field(default=4, description="Bits of a weight.")
    sym: bool = Field(default=False, description="Whether the steps lie evenly around zero.")


OPTIONS = AwqOptions

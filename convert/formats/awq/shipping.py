"""How AWQ is shipped: as GPTQ is, to the same runtimes."""

from dataclasses import replace

from convert.formats.gptq.shipping import SHIPPING as GPTQ
from convert.formats.shipping import Xinference

SHIPPING = replace(
    GPTQ,
    label="AWQ",
    suffix="AWQ",
    tags=("awq",),
    xinference=Xinference("awq", "vLLM", "Int{bits}", needs=("transformers-packed", "vllm")),
)

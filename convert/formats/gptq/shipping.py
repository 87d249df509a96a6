"""How GPTQ is shipped: in Transformers' layout, for the runtimes that read packed weights."""

from convert.formats.shipping import Guide, Shipping, Xinference

# Transformers looks for plain weights in a family that stores them transposed, and packed ones have none.
_PACKED = "transformers-packed"

SHIPPING = Shipping(
    label="GPTQ",
    suffix="GPTQ-Int{bits}",
    weights=r".*\.safetensors",
    tags=("gptq",),
    guides=(
        Guide("gptq/gptqmodel", unless=_PACKED),
        Guide("hf/transformers", needs=(_PACKED,)),
        Guide("hf/vllm", needs=(_PACKED, "vllm")),
        Guide("hf/sglang", needs=(_PACKED, "sglang")),
        Guide("hf/tgi", needs=(_PACKED, "tgi")),
        Guide("hf/lmdeploy", needs=(_PACKED, "lmdeploy")),
        Guide("hf/fastchat", needs=(_PACKED, "vllm")),
        Guide("hf/xinference"),
    ),
    xinference=Xinference("gptq", "vLLM", "Int{bits}", needs=(_PACKED, "vllm")),
)

"""How compressed-tensors is shipped: in Transformers' layout, for the runtimes that read it by themselves."""

from convert.formats.shipping import Guide, Shipping, Xinference

SHIPPING = Shipping(
    label="compressed-tensors",
    suffix="{scheme}",
    weights=r".*\.safetensors",
    tags=("compressed-tensors",),
    guides=(
        Guide("compressed_tensors/vllm", needs=("vllm",)),
        Guide("hf/sglang", needs=("sglang",)),
        Guide("compressed_tensors/transformers"),
    ),
    favorite="fp8",
    xinference=Xinference("fp8", "vLLM", "fp8", needs=("vllm",)),
)

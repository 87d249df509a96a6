"""How weights in Transformers' own layout are shipped."""

from convert.formats.shipping import Guide, Shipping, Xinference

SHIPPING = Shipping(
    label="safetensors",
    suffix="HF",
    weights=r".*\.safetensors",
    tags=("hf",),
    is_quantized=False,
    guides=(
        Guide("hf/transformers"),
        Guide("hf/vllm", needs=("vllm",)),
        Guide("hf/sglang", needs=("sglang",)),
        Guide("hf/tgi", needs=("tgi",)),
        Guide("hf/lmdeploy", needs=("lmdeploy",)),
        Guide("hf/fastchat", needs=("vllm",)),
        Guide("hf/xinference"),
    ),
    xinference=Xinference("pytorch", "Transformers", "none"),
)

"""How GGUF is shipped: llama.cpp, what is built on it, and some that read it besides their own formats."""

from convert.formats.shipping import Guide, Shipping, Xinference

SHIPPING = Shipping(
    label="GGUF",
    suffix="GGUF",
    # Named by the quant: an importance matrix may lie in the same folder.
    weights=r".*-{label}(-\d{5}-of-\d{5})?\.gguf",
    tags=("gguf", "llama.cpp"),
    library="llama.cpp",
    folder="",  # all quants in one folder, where llama.cpp and Ollama look for them
    goes_to_root=False,
    chat_template=None,
    favorite="Q4_K_M",
    runs_in_ollama=True,
    guides=(
        Guide("gguf/download"),
        Guide("gguf/llama-cpp"),
        Guide("gguf/llama-cpp-python"),
        Guide("gguf/pieces"),
        Guide("gguf/ollama"),
        Guide("gguf/llamafile"),
        Guide("gguf/lm-studio"),
        Guide("gguf/transformers", needs=("transformers-gguf",)),
        Guide("gguf/vllm", needs=("vllm-gguf",)),
        Guide("gguf/sglang", needs=("sglang-gguf",)),
        Guide("hf/xinference"),
    ),
    xinference=Xinference("ggufv2", "llama.cpp", "{label}", names_file=True),
)

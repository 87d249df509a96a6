"""How ONNX is shipped: in folders of onnxruntime-genai's, or as a whole repo of transformers.js's."""

from dataclasses import replace

from convert.formats.shipping import Guide, Shipping

GENAI = Shipping(
    label="ONNX",
    suffix="ONNX",
    weights=r"(onnx/)?.*\.(onnx|data|onnx_data)",
    tags=("onnx", "onnxruntime", "onnxruntime-genai"),
    library="onnxruntime-genai",
    folder="{provider}-{precision}/",  # as onnxruntime-genai's own repos have it
    documents="{provider}-{precision}/",
    goes_to_root=False,
    guides=(
        Guide("onnx/onnxruntime-genai"),
        Guide("onnx/transformers-js", needs=("transformers.js",)),
    ),
)
SHIPPING = replace(
    GENAI,
    layouts={
        "transformers.js": replace(
            GENAI,
            tags=("onnx", "transformers.js"),
            library="transformers.js",
            folder="{target}/",
            documents="{target}/",
            goes_to_root=True,
        )
    },
)

"""How ONNX is shipped: onnxruntime-genai alone reads these graphs, by their operators and configuration."""

from convert.formats.shipping import Guide, Shipping

SHIPPING = Shipping(
    label="ONNX",
    suffix="ONNX",
    weights=r".*\.(onnx|data)",
    tags=("onnx", "onnxruntime", "onnxruntime-genai"),
    library="onnxruntime-genai",
    folder="{provider}-{precision}/",  # as onnxruntime-genai's own repos have it
    documents="{provider}-{precision}/",
    goes_to_root=False,
    guides=(Guide("onnx/onnxruntime-genai"),),
)

"""The layout of transformers.js: the graph in onnx/, named by its type, next to the files of Transformers."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.formats.hf.companions import canonical_config, companion_files
from convert.formats.onnx.graph import DATA_FILE
from convert.formats.onnx.options import Precision, Provider

if TYPE_CHECKING:
    from onnx import ModelProto

    from convert.model.source import Model
    from convert.writer.layout import Layout

FOLDER = "onnx"
# Its names of what is stored, and what each is called in a file's name.
TYPES: dict[tuple[Precision, Provider], tuple[str, str]] = {
    (Precision.INT4, Provider.CPU): ("q4", "_q4"),
    (Precision.INT4, Provider.CUDA): ("q4f16", "_q4f16"),
    (Precision.INT8, Provider.CPU): ("int8", "_int8"),
    (Precision.FP16, Provider.CPU): ("fp16", "_fp16"),
    (Precision.FP16, Provider.CUDA): ("fp16", "_fp16"),
    (Precision.FP32, Provider.CPU): ("fp32", ""),
}


def arrange(
    model: Model, graph: ModelProto, layout: Layout, precision: Precision, provider: Provider
) -> tuple[Layout, dict[str, bytes]]:
    """Name the graph and its weights as that library looks for them, and write the small files."""
    dtype, suffix = TYPES[precision, provider]
    name = f"model{suffix}.onnx"
    for tensor in graph.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location" and entry.value == DATA_FILE:
                entry.value = f"{name}_data"
    halves = provider is Provider.CUDA
    settings: dict[str, Any] = {
        "dtype": dtype,
        "use_external_data_format": {name: 1},
        "kv_cache_dtype": {dtype: "float16" if halves else "float32"},
    }
    config = {
        **canonical_config(model, "float16" if halves else "float32"),
        "transformers.js_config": settings,
    }
    files = {
        f"{FOLDER}/{name}": graph.SerializeToString(deterministic=True),
        **companion_files(model, config),
    }
    return replace(layout, path=f"{FOLDER}/{name}_data"), files

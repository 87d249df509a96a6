"""Weights quantized when a model is opened, as Transformers' users do it: what an artifact is compared with.

The head stays as it is stored, as Transformers leaves it.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def quantize(model: Any, way: str) -> str:
    """Quantize every matrix but the head in place; return what did it."""
    distribution, linear = WAYS[way]
    _replace(model, model.get_output_embeddings(), linear())
    return f"{way} by {distribution} {version(distribution)}"


def _replace(module: Any, head: Any, linear: Callable[[Any], Any]) -> None:
    import torch

    for name, child in module.named_children():
        if type(child) is torch.nn.Linear and child is not head:
            setattr(module, name, linear(child))
        else:
            _replace(child, head, linear)


def _nf4() -> Callable[[Any], Any]:
    import bitsandbytes

    return lambda layer: _filled(
        layer,
        bitsandbytes.nn.Linear4bit(*_sizes(layer), quant_type="nf4", compute_dtype=layer.weight.dtype),
    )


def _int8() -> Callable[[Any], Any]:
    import bitsandbytes

    return lambda layer: _filled(layer, bitsandbytes.nn.Linear8bitLt(*_sizes(layer), has_fp16_weights=False))


def _torchao() -> Callable[[Any], Any]:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    def linear(layer: Any) -> Any:
        quantize_(layer, Int8WeightOnlyConfig())
        return layer

    return linear


def _sizes(layer: Any) -> tuple[int, int, bool]:
    return layer.in_features, layer.out_features, layer.bias is not None


def _filled(layer: Any, empty: Any) -> Any:
    """Give a layer of bitsandbytes the weights, which it quantizes when they are put on a device."""
    empty.load_state_dict(layer.state_dict())
    return empty.to(layer.weight.device)


WAYS: Mapping[str, tuple[str, Callable[[], Callable[[Any], Any]]]] = {
    "bnb-nf4": ("bitsandbytes", _nf4),
    "bnb-int8": ("bitsandbytes", _int8),
    "torchao-int8": ("torchao", _torchao),
}

"""The model families: one file per model_type, and its name is the registry.

A file defines `CLASSES`, `NAMING`, `describe(config)` and `EXAMPLE`, and where it has something to say
`GGUF`, `TOKENIZER`, `GENAI`, `CANONICAL`, `REFERENCE` and `RUNS_IN`: the fields of `Family`.
"""

import importlib
import pkgutil
from functools import cache

from convert.errors import Failure
from convert.model.config import Config
from convert.model.family import Family

_OPTIONAL = ("gguf", "tokenizer", "genai", "canonical", "reference", "runs_in", "fastchat_prompt")
_REFUSED = {
    "vision_config": "a vision tower",
    "audio_config": "an audio tower",
    "num_local_experts": "a mixture of experts",
    "num_experts": "a mixture of experts",
}


def supported() -> tuple[str, ...]:
    """List the model types that can be read."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def family(model_type: str) -> Family:
    """Load a family's file."""
    module = importlib.import_module(f"{__name__}.{model_type}")
    optional = {name: getattr(module, name.upper()) for name in _OPTIONAL if hasattr(module, name.upper())}
    return Family(model_type, module.CLASSES, module.NAMING, module.describe, module.EXAMPLE, **optional)


def find_family(config: Config) -> Family:
    """Find the file for a config's model_type, or refuse with the list of those there are."""
    model_type = config.text("model_type")
    known = ", ".join(supported())
    if model_type not in supported():
        raise Failure(
            f"{config.where}: model_type {model_type!r} is not supported",
            f"supported are: {known}",
        )
    for key, what in _REFUSED.items():
        if config.has(key):
            raise Failure(
                f"{config.where}: {key} names {what}, which is not supported",
                f"supported are dense text decoders: {known}",
            )
    for key in ("quantization_config", "compression_config"):
        if config.has(key):
            section = config.section(key)
            method = section.text("quant_method", "unknown") if section else "unknown"
            raise Failure(
                f"{config.where}: the source is already quantized ({method})",
                "convert from the original weights: what a first quantization lost cannot be brought back",
            )
    found = family(model_type)
    _check_class(config, found)
    return found


def _check_class(config: Config, found: Family) -> None:
    classes = config.values.get("architectures")
    if classes is None:
        return
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise Failure(f"{config.where}: architectures is no list of names", "fetch the file again")
    if classes and not set(classes) & set(found.classes):
        raise Failure(
            f"{config.where}: {', '.join(classes)} is not a text decoder of type {found.model_type}",
            f"supported for {found.model_type}: {', '.join(found.classes)}",
        )

"""The model families: one file per model_type, and its name is the registry.

A file defines `CLASSES`, `NAMING`, `describe(config)` and `EXAMPLE`, and where it has something to say
`GGUF`, `MLX`, `CTRANSLATE2`, `TOKENIZER`, `GENAI`, `CANONICAL`, `REFERENCE`, `VARIANTS`, `RUNS_IN` and so on:
the fields of `Family`.
"""

import importlib
import pkgutil
from functools import cache

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.family import Family
from convert.model.kind import refuse_other_kinds

_OPTIONAL = (
    "variants", "gguf", "mlx", "ctranslate2", "tokenizer", "genai", "canonical", "reference", "runs_in",
    "fastchat_prompt", "may_have_experts", "unquantized",
)  # fmt: skip
# What a multimodal model's config says for its text decoder too.
_SHARED = ("tie_word_embeddings", "torch_dtype", "dtype", "bos_token_id", "eos_token_id", "pad_token_id")
# What the names of text decoders end with that are found in multimodal models alone.
TEXT = "_text"
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def supported() -> tuple[str, ...]:
    """List the model types that can be read."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


@cache
def family(model_type: str) -> Family:
    """Load a family's file."""
    module = importlib.import_module(f"{__name__}.{model_type}")
    optional = {name: getattr(module, name.upper()) for name in _OPTIONAL if hasattr(module, name.upper())}
    return Family(model_type, module.CLASSES, module.NAMING, module.describe, module.EXAMPLE, **optional)


def is_multimodal(config: Config) -> bool:
    """Check whether a config wraps that of a text decoder."""
    return isinstance(config.values.get("text_config"), dict) and bool(config.values["text_config"])


def text_config(config: Config) -> Config:
    """Find the text decoder's part of a config, which is all of it where the model is nothing more."""
    section = config.section("text_config") if is_multimodal(config) else None
    if section is None:
        return config
    shared = {key: config.values[key] for key in _SHARED if config.has(key)}
    inner = {key: each for key, each in section.values.items() if each is not None}
    return Config({**shared, **inner}, section.where, outer=config)


def find_family(config: Config) -> Family:
    """Find the file for a config's model_type, or refuse what the model is by name."""
    inner = text_config(config)
    is_alone = inner is config or config.values.get("model_type") in supported()
    model_type = inner.text("model_type", config.text("model_type") if is_alone else None)
    if model_type not in supported() and model_type + TEXT in supported():
        model_type += TEXT  # older configs have no part for the text decoder
    if model_type not in supported():
        refuse_other_kinds(config)
        whose = "the" if inner is config else "the text decoder's"
        raise Failure(
            f"{config.where}: {whose} family {model_type!r} is not supported",
            f"supported are: {', '.join(supported())}",
        )
    found = family(model_type)
    _check_class(config, found)
    return found


def describe(config: Config) -> tuple[Family, Decoder]:
    """Read a config, alone or in that of a multimodal model."""
    found, inner = find_family(config), text_config(config)
    decoder = found.describe(inner)
    if not found.may_have_experts and not any(layer.experts for layer in decoder.kinds):
        for key in _EXPERTS:
            if isinstance(count := inner.values.get(key), int) and count > 1:
                raise Failure(
                    f"{inner.where}: {key} names a mixture of experts, which no {found.model_type} has",
                    "the file is of another model, or was edited",
                )
    return found, decoder


def _check_class(config: Config, found: Family) -> None:
    classes = config.values.get("architectures")
    if classes is None:
        return
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise Failure(f"{config.where}: architectures is no list of names", "fetch the file again")
    if not classes or set(classes) & set(found.classes):
        return
    refuse_other_kinds(config)
    if not (is_multimodal(config) and classes[0].endswith("ForConditionalGeneration")):
        raise Failure(
            f"{config.where}: {', '.join(classes)} is not a text decoder of type {found.model_type}",
            f"supported for {found.model_type}: {', '.join(found.classes)}",
        )

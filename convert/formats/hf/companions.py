"""The small files beside weights, as Transformers, vLLM and onnxruntime-genai read them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from convert.model.config import Config, read_config
from convert.model.families import find_architecture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.model.decoder import Decoder
    from convert.model.source import Model
    from convert.tokenizer import Tokenizer

# Keys that name code to fetch and run, or that tell of the machine that saved the file.
_LEFT_OUT = frozenset({"auto_map", "custom_pipelines", "_name_or_path", "transformers_version"})
# What only the code of the original Qwen reads in a generation_config.json.
_QWEN_ONLY = frozenset({"chat_format", "max_window_size", "stop_words_ids"})
_ROLES = ("bos", "eos", "unk", "pad")


def companion_files(model: Model, config: Mapping[str, Any]) -> dict[str, bytes]:
    """All of them: `config` as config.json, the tokenizer's files, the ends of generation."""
    return {
        "config.json": to_json(config),
        "generation_config.json": to_json(generation_config(model)),
        **tokenizer_files(model.tokenizer),
    }


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Write tokenizer.json and what stands beside it.

    The template stands both in tokenizer_config.json, where older readers and onnxruntime-genai look, and in
    chat_template.jinja, where current Transformers looks first.
    """
    settings = tokenizer.config
    special = {f"{role}_token": settings.get(f"{role}_token") for role in _ROLES}
    special["additional_special_tokens"] = settings.get("additional_special_tokens")
    files = {
        "tokenizer.json": tokenizer.json,
        "tokenizer_config.json": to_json(settings),
        "special_tokens_map.json": to_json({name: text for name, text in special.items() if text}),
    }
    if tokenizer.chat_template is not None:
        files["chat_template.jinja"] = tokenizer.chat_template.encode()
    return files


def generation_config(model: Model) -> dict[str, Any]:
    """Complete the source's: every token that ends an answer, and what begins and fills."""
    tokenizer = model.tokenizer
    left_out = _LEFT_OUT | (_QWEN_ONLY if is_relabelled(model) else frozenset())
    kept = {
        name: value
        for name, value in model.generation.items()
        if name not in left_out and not name.startswith("_")
    }
    ends = list(tokenizer.eog_ids)
    if ends:
        kept["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    for role, identity in (("bos", tokenizer.bos_id), ("pad", tokenizer.pad_id)):
        if identity is not None:
            kept.setdefault(f"{role}_token_id", identity)
    return kept


def canonical_config(model: Model, dtype: str) -> dict[str, Any]:
    """config.json for Transformers' own classes; `dtype` is torch's name of the stored type."""
    if is_relabelled(model):
        config = _relabelled(model.decoder, model.tokenizer)
    else:
        source = read_config(model.folder).values
        config = {name: value for name, value in source.items() if name not in _LEFT_OUT}
        config["architectures"] = [_class_name(model.decoder)]
    config.pop("dtype", None)
    # Every release reads this spelling; the fifth of Transformers writes `dtype`, which older ones pass over.
    config["torch_dtype"] = dtype
    return config


def is_relabelled(model: Model) -> bool:
    """Tell whether the source's family goes by another name and config: Qwen-1 is Qwen2."""
    return read_config(model.folder).text("model_type") != model.decoder.family


def to_json(content: Mapping[str, Any]) -> bytes:
    """Write a small file as Transformers does: indented by two, keys sorted."""
    return (json.dumps(content, ensure_ascii=False, indent=2, sort_keys=True) + "\n").encode()


def _class_name(decoder: Decoder) -> str:
    return find_architecture(Config({"model_type": decoder.family})).CLASSES[0]


def _relabelled(decoder: Decoder, tokenizer: Tokenizer) -> dict[str, Any]:
    """Say in Qwen2's words what the source's config says in its own."""
    if decoder.family != "qwen2" or decoder.rope is None or decoder.rope.scaling is not None:
        raise ValueError(f"{decoder.family} is no family that another one goes by")
    theta = decoder.rope.theta
    return {
        "architectures": [_class_name(decoder)],
        "attention_dropout": 0.0,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.eos_id,
        "hidden_act": decoder.activation,
        "hidden_size": decoder.hidden_size,
        "intermediate_size": decoder.mlp_size,
        "max_position_embeddings": decoder.context_length,
        "model_type": decoder.family,
        "num_attention_heads": decoder.head_count,
        "num_hidden_layers": decoder.layer_count,
        "num_key_value_heads": decoder.kv_head_count,
        "rms_norm_eps": decoder.norm_eps,
        # Current Transformers reads the second, everything before it the first.
        "rope_theta": theta,
        "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        "sliding_window": None,
        "tie_word_embeddings": decoder.is_tied,
        "use_cache": True,
        "use_sliding_window": False,
        "vocab_size": decoder.vocab_size,
    }

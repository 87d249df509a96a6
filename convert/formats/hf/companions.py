"""The small files that go with weights, as Transformers, vLLM and onnxruntime-genai read them."""

from collections.abc import Mapping
from typing import Any

from convert import strict_json
from convert.checkpoint.quantized import without_sections
from convert.model.config import read_config, untied
from convert.model.families import family, find_family, is_multimodal, text_config
from convert.model.family import Family
from convert.model.source import Model
from convert.tokenizer import Tokenizer

# Keys that name code to fetch and run, or that tell of the machine that saved the file.
_LEFT_OUT = frozenset({"auto_map", "custom_pipelines", "_name_or_path", "transformers_version"})
_ROLES = ("bos", "eos", "unk", "pad")


def companion_files(model: Model, config: Mapping[str, Any]) -> dict[str, bytes]:
    """Write them all: `config` as config.json, the tokenizer's files, the ends of generation."""
    return {
        "config.json": to_json(config),
        "generation_config.json": to_json(generation_config(model)),
        **tokenizer_files(model.tokenizer),
    }


def tokenizer_files(tokenizer: Tokenizer) -> dict[str, bytes]:
    """Write tokenizer.json and the files that go with it.

    The template is both in tokenizer_config.json, where older readers and onnxruntime-genai look, and in
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
    canonical = _source_family(model).canonical
    left_out = _LEFT_OUT | (canonical.private_keys if canonical else frozenset())
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
    """Make config.json for Transformers' own classes; `dtype` is torch's name of the stored type."""
    canonical = _source_family(model).canonical
    if canonical and canonical.config:
        config = canonical.config(model.decoder, model.tokenizer.bos_id, model.tokenizer.eos_id)
    else:
        # Of a multimodal model the text decoder alone is written.
        whole = read_config(model.folder)
        source = without_sections(text_config(whole).values)
        config = {name: value for name, value in source.items() if name not in _LEFT_OUT}
        config["architectures"] = [family(model.decoder.family).classes[0]]
        if canonical:
            config["model_type"] = model.decoder.family
        if is_multimodal(whole):
            config["tie_word_embeddings"] = model.decoder.is_tied
    if model.is_untied:
        config = untied(config)
    config.pop("dtype", None)
    # Every release reads this spelling; the fifth of Transformers writes `dtype`, which older ones pass over.
    config["torch_dtype"] = dtype
    return config


def is_relabeled(model: Model) -> bool:
    """Check whether the source's family has another's shape under other names."""
    return _source_family(model).canonical is not None


def _source_family(model: Model) -> Family:
    return find_family(read_config(model.folder))


def to_json(content: Mapping[str, Any]) -> bytes:
    """Write a small file as Transformers does: indented by two, keys sorted."""
    return strict_json.to_json(content) + b"\n"

"""The key-values of a GGUF file: who the model is, its sizes, how its positions turn."""

from pathlib import PurePosixPath
from typing import Any

import gguf

from convert.errors import Failure
from convert.formats.gguf.header import Field
from convert.formats.gguf.tensors import graph_of
from convert.model.decoder import Decoder, RopeScaling
from convert.model.rotary import longrope_attention
from convert.model.source import Model

# generation_config.json's settings that llama.cpp takes as a model's own defaults.
SAMPLING = {
    "top_k": "sampling_top_k",
    "top_p": "sampling_top_p",
    "min_p": "sampling_min_p",
    "temperature": "sampling_temp",
}


def fields(model: Model, file_type: int, parameter_count: int) -> dict[str, Field]:
    """Collect everything but the vocabulary, with gguf-py's own knowledge of keys and types."""
    writer = gguf.GGUFWriter(None, graph_of(model.decoder).architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    _add_identity(writer, model, parameter_count)
    _add_sizes(writer, model.decoder)
    _add_positions(writer, model.decoder)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(file_type)
    return {
        key: Field(value.value, value.type, _item_type(value))
        for key, value in writer.kv_data[0].items()
        if _is_plain(value)
    }


def _is_plain(value: Any) -> bool:
    """Tell whether a value can be written: a card is a stranger's, and may hold anything anywhere."""
    if value.type == gguf.GGUFValueType.STRING:
        return isinstance(value.value, str)
    # A list without items has no type of item either, and says nothing.
    return value.type != gguf.GGUFValueType.ARRAY or (
        bool(value.value) and all(isinstance(item, str) for item in value.value)
    )


def _item_type(value: Any) -> gguf.GGUFValueType | None:
    """Tell what a list's items are, which gguf-py leaves to the moment of writing."""
    if value.type != gguf.GGUFValueType.ARRAY:
        return None
    return value.sub_type or gguf.GGUFValueType.get_type(value.value[0])


def _add_identity(writer: Any, model: Model, parameter_count: int) -> None:
    """Say whose model this is, from its card and repository; a folder's name stays out."""
    try:
        metadata = gguf.Metadata.apply_metadata_heuristic(
            gguf.Metadata(), dict(model.card), None, PurePosixPath(model.title), parameter_count
        )
        metadata.name = metadata.name or model.title
        if model.repo is not None:
            organization, _, _ = model.repo.rpartition("/")
            if metadata.organization is None and organization:
                metadata.organization = gguf.Metadata.id_to_title(organization)
            metadata.source_repo_url = f"https://huggingface.co/{model.repo}"
        metadata.size_label = metadata.size_label or gguf.size_label(parameter_count, 0, 0, 0)
        for key, attribute in SAMPLING.items():
            value = model.generation.get(key)
            if isinstance(value, int | float) and not isinstance(value, bool):
                setattr(metadata, attribute, value)
        metadata.set_gguf_meta_model(writer)
    except (TypeError, ValueError, AttributeError) as error:
        raise Failure(
            f"the model card's front matter cannot be carried over: {error}",
            "correct the README.md of the source",
        ) from error


def _add_sizes(writer: Any, decoder: Decoder) -> None:
    layer, always = decoder.layer, graph_of(decoder).always
    mixer = layer.mixer
    writer.add_block_count(decoder.layer_count)
    writer.add_context_length(decoder.context_length)
    writer.add_embedding_length(decoder.hidden_size)
    writer.add_feed_forward_length(layer.mlp.size)
    writer.add_head_count(mixer.head_count)
    writer.add_head_count_kv(mixer.kv_head_count)
    writer.add_vocab_size(decoder.vocab_size)
    if decoder.final_norm.kind == "rms":
        writer.add_layer_norm_rms_eps(decoder.final_norm.eps)
    else:
        writer.add_layer_norm_eps(decoder.final_norm.eps)
    if "key_length" in always or mixer.q_size != decoder.hidden_size:
        writer.add_key_length(mixer.head_size)
        writer.add_value_length(mixer.head_size)
    if "sliding_window" in always:
        writer.add_sliding_window(mixer.window or 0)


def _add_positions(writer: Any, decoder: Decoder) -> None:
    rope = decoder.rope
    if rope is None:
        return
    writer.add_rope_dimension_count(rope.dimensions)
    writer.add_rope_freq_base(rope.theta)
    scaling = rope.scaling
    if "original_context_length" in graph_of(decoder).always:
        original = scaling.original_context_length if scaling else decoder.context_length
        writer.add_rope_scaling_orig_ctx_len(original)
    if scaling is None:
        return
    if scaling.kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(scaling.factor)
    elif scaling.kind == "yarn":
        _add_yarn(writer, scaling)
    elif scaling.kind == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        writer.add_rope_scaling_attn_factors(longrope_attention(decoder, scaling))


def _add_yarn(writer: Any, scaling: RopeScaling) -> None:
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(scaling.factor)
    writer.add_rope_scaling_orig_ctx_len(scaling.original_context_length)
    if scaling.attention_factor is not None:
        writer.add_rope_scaling_yarn_attn_factor(scaling.attention_factor)
    if scaling.beta_fast is not None:
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
    if scaling.beta_slow is not None:
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)

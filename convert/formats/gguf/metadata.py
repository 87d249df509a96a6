"""The key-values of a GGUF file: who the model is, its sizes, how its positions turn."""

from pathlib import PurePosixPath
from typing import Any

import gguf

from convert.errors import Failure
from convert.formats.gguf.header import Field
from convert.formats.gguf.tensors import graph_of
from convert.model.decoder import (
    Attention,
    Decoder,
    Delta,
    Experts,
    Latent,
    Layer,
    Mixer,
    Parallel,
    RopeScaling,
    ShortConvolution,
    StateSpace,
)
from convert.model.rotary import longrope_attention, yarn_attention, yarn_scale
from convert.model.source import Model

# generation_config.json's settings that llama.cpp takes as a model's own defaults.
SAMPLING = {
    "top_k": "sampling_top_k",
    "top_p": "sampling_top_p",
    "min_p": "sampling_min_p",
    "temperature": "sampling_temp",
}

MAX_ALIBI_BIAS = 8.0


def fields(model: Model, file_type: int, counts: tuple[int, int, int, int]) -> dict[str, Field]:
    """Collect everything but the vocabulary, with gguf-py's own knowledge of keys and types."""
    writer = gguf.GGUFWriter(None, graph_of(model.decoder).architecture)
    writer.add_type(gguf.GGUFType.MODEL)
    identity(writer, model, counts)
    _add_sizes(writer, model.decoder)
    _add_mechanisms(writer, model.decoder)
    _add_positions(writer, model.decoder)
    _add_own(writer, model.decoder)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(file_type)
    return packed(writer)


def packed(writer: gguf.GGUFWriter) -> dict[str, Field]:
    """Take the keys that a writer has collected."""
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
        bool(value.value) and all(isinstance(item, str | int | float) for item in value.value)
    )


def _item_type(value: Any) -> gguf.GGUFValueType | None:
    """Tell what a list's items are, which gguf-py leaves to the moment of writing."""
    if value.type != gguf.GGUFValueType.ARRAY:
        return None
    return value.sub_type or gguf.GGUFValueType.get_type(value.value[0])


def identity(writer: Any, model: Model, counts: tuple[int, int, int, int]) -> None:
    """Say whose model this is, from its card and repository; a folder's name stays out."""
    try:
        metadata = gguf.Metadata.apply_metadata_heuristic(
            gguf.Metadata(), dict(model.card), None, PurePosixPath(model.title), counts[0]
        )
        metadata.name = metadata.name or model.title
        if model.repo is not None:
            organization, _, _ = model.repo.rpartition("/")
            if metadata.organization is None and organization:
                metadata.organization = gguf.Metadata.id_to_title(organization)
            metadata.source_repo_url = f"https://huggingface.co/{model.repo}"
        metadata.size_label = metadata.size_label or gguf.size_label(*counts)
        for key, attribute in SAMPLING.items():
            if key in model.sampling:
                setattr(metadata, attribute, model.sampling[key])
        metadata.set_gguf_meta_model(writer)
    except (TypeError, ValueError, AttributeError) as error:
        raise Failure(
            f"the model card's front matter cannot be carried over: {error}",
            "correct the README.md of the source",
        ) from error


def _add_sizes(writer: Any, decoder: Decoder) -> None:
    always = graph_of(decoder).always
    writer.add_block_count(decoder.layer_count)
    if further := sum(layer.next_norm is not None for layer in decoder.layers):
        writer.add_nextn_predict_layers(further)
    writer.add_context_length(decoder.context_length)
    writer.add_embedding_length(decoder.hidden_size)
    widths = [_mlp_size(layer) for layer in decoder.layers]
    if any(widths) or not any(layer.experts for layer in decoder.kinds):
        writer.add_feed_forward_length(_alike(widths))
    heads = [count for layer in decoder.layers if (count := _head_count(layer.mixer))]
    writer.add_head_count(_alike(heads or [0]))
    # What linear attention has instead of keys is said apart.
    mixers = [layer.mixer for layer in decoder.layers if not isinstance(layer.mixer, Delta)]
    writer.add_head_count_kv(_alike([_kv_head_count(mixer) for mixer in mixers] or [0]))
    writer.add_vocab_size(decoder.vocab_size)
    if decoder.final_norm.kind == "rms":
        writer.add_layer_norm_rms_eps(decoder.final_norm.eps)
    else:
        writer.add_layer_norm_eps(decoder.final_norm.eps)
    for attention in decoder.attentions[:1]:
        if "key_length" in always or attention.q_size != decoder.hidden_size:
            size = max(each.head_size for each in decoder.attentions)
            writer.add_key_length(size)
            writer.add_value_length(size)
    windows = [each.window or 0 for each in decoder.attentions]
    if "sliding_window" in always or any(windows):
        writer.add_sliding_window(max(windows, default=0))


def _alike(sizes: list[int]) -> int | list[int]:
    """Say once what is the same in all layers."""
    return sizes[0] if len(set(sizes)) == 1 else sizes


def _mlp_size(layer: Layer) -> int:
    """Say how wide the MLP is that every token goes through; the experts have another key."""
    if layer.dense:
        return layer.dense.size
    return layer.experts.dense_size if layer.experts else 0


def _head_count(mixer: Mixer | None) -> int:
    attention = mixer.attention if isinstance(mixer, Parallel) else mixer
    return attention.head_count if isinstance(attention, Attention | Latent) else 0


def _kv_head_count(mixer: Mixer | None) -> int:
    """Count heads of keys; latent attention has one, of which all others are made."""
    attention = mixer.attention if isinstance(mixer, Parallel) else mixer
    if isinstance(attention, Latent):
        return 1
    return attention.kv_head_count if isinstance(attention, Attention) else 0


def _add_mechanisms(writer: Any, decoder: Decoder) -> None:
    """Write what departs from the plain case."""
    attentions = decoder.attentions
    if attentions and attentions[0].scale is not None:
        writer.add_attention_scale(attentions[0].scale)
    if attentions and attentions[0].softcap is not None:
        writer.add_attn_logit_softcapping(attentions[0].softcap)
    if attentions and attentions[0].clip is not None:
        writer.add_clamp_kqv(attentions[0].clip)
    if attentions and attentions[0].alibi:
        writer.add_max_alibi_bias(MAX_ALIBI_BIAS)
    if decoder.logit_softcap is not None:
        writer.add_final_logit_softcapping(decoder.logit_softcap)
    if decoder.logit_scale is not None:
        writer.add_logit_scale(decoder.logit_scale)
    if decoder.layer.residual_scale != 1:
        writer.add_residual_scale(decoder.layer.residual_scale)
    for each in {type(layer.mixer): layer.mixer for layer in decoder.kinds}.values():
        _add_mixer(writer, each)
    experts = [layer.experts for layer in decoder.layers if layer.experts]
    if experts:
        _add_experts(writer, decoder, experts[0])


def _add_mixer(writer: Any, mixer: Mixer | None) -> None:
    if isinstance(mixer, Latent):
        if mixer.q_rank:
            writer.add_q_lora_rank(mixer.q_rank)
        writer.add_kv_lora_rank(mixer.kv_rank)
        # One head of keys holds the narrow row and the positions, and values come out of that row.
        writer.add_key_length(mixer.kv_rank + mixer.rope.dimensions)
        writer.add_value_length(mixer.kv_rank)
        writer.add_key_length_mla(mixer.head_size)
        writer.add_value_length_mla(mixer.value_size)
    elif isinstance(mixer, Delta):
        writer.add_ssm_conv_kernel(mixer.kernel)
        writer.add_ssm_state_size(mixer.key_size)
        writer.add_ssm_group_count(mixer.key_head_count)
        writer.add_ssm_time_step_rank(mixer.value_head_count)
        writer.add_ssm_inner_size(mixer.values_size)
    elif isinstance(mixer, StateSpace | Parallel):
        state = mixer.state if isinstance(mixer, Parallel) else mixer
        writer.add_ssm_conv_kernel(state.kernel)
        writer.add_ssm_state_size(state.state_size)
        writer.add_ssm_group_count(state.group_count)
        writer.add_ssm_time_step_rank(state.head_count)
        writer.add_ssm_inner_size(state.inner_size)
    elif isinstance(mixer, ShortConvolution):
        writer.add_shortconv_l_cache(mixer.kernel)


def _add_experts(writer: Any, decoder: Decoder, experts: Experts) -> None:
    always = graph_of(decoder).always
    writer.add_expert_count(experts.count)
    writer.add_expert_used_count(experts.used_count)
    writer.add_expert_feed_forward_length(experts.size)
    if experts.shared_size:
        writer.add_expert_shared_feed_forward_length(experts.shared_size)
    leading = next(number for number, layer in enumerate(decoder.layers) if layer.experts)
    if leading or "leading_dense_block_count" in always:
        writer.add_leading_dense_block_count(leading)
    if experts.routing == "sigmoid" or "expert_gating_func" in always:
        kinds = gguf.ExpertGatingFuncType
        writer.add_expert_gating_func(kinds.SIGMOID if experts.routing == "sigmoid" else kinds.SOFTMAX)
    if experts.scale != 1 or "expert_weights_scale" in always:
        writer.add_expert_weights_scale(experts.scale)
    if "expert_weights_norm" in always:
        writer.add_expert_weights_norm(experts.is_normalized)
    if experts.group_count > 1 or "expert_group_count" in always:
        writer.add_expert_group_count(experts.group_count)
        writer.add_expert_group_used_count(experts.used_group_count)
    if "expert_shared_count" in always:
        writer.add_expert_shared_count(experts.shared_count if experts.shared_size else 0)


def _add_positions(writer: Any, decoder: Decoder) -> None:
    # Where layers differ, the one that sees everything speaks for the model.
    turned = [layer.mixer for layer in decoder.layers if layer.mixer and layer.mixer.rope]
    ropes = [mixer.rope for mixer in sorted(turned, key=lambda mixer: mixer.window is not None)]
    rope = ropes[0] if ropes else None
    if rope is None:
        return
    writer.add_rope_dimension_count(rope.dimensions)
    writer.add_rope_freq_base(rope.theta)
    if rope.sections:
        writer.add_rope_dimension_sections([*rope.sections, 0, 0, 0, 0][:4])
    if (local := ropes[-1]) and local.theta != rope.theta:
        writer.add_rope_freq_base_swa(local.theta)
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
    # llama.cpp goes by YaRN's own proposal instead, and multiplies it with this one.
    if (ratio := yarn_attention(scaling) / yarn_scale(scaling.factor)) != 1:
        writer.add_rope_scaling_attn_factors(ratio)
    if scaling.beta_fast is not None:
        writer.add_rope_scaling_yarn_beta_fast(scaling.beta_fast)
    if scaling.beta_slow is not None:
        writer.add_rope_scaling_yarn_beta_slow(scaling.beta_slow)


def _add_own(writer: Any, decoder: Decoder) -> None:
    """Write what this graph alone reads, and take out what it must not find."""
    graph = graph_of(decoder)
    for key, value in (graph.keys(decoder) if graph.keys else {}).items():
        name = key if key.startswith("tokenizer.") else f"{graph.architecture}.{key}"
        writer.kv_data[0].pop(name, None)
        if isinstance(value, bool):
            writer.add_bool(name, value)
        elif isinstance(value, int):
            writer.add_uint32(name, value)
        elif isinstance(value, float):
            writer.add_float32(name, value)
        elif isinstance(value, str):
            writer.add_string(name, value)
        elif value is not None:
            writer.add_array(name, list(value))

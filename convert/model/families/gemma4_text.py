"""Gemma 4: layers whose heads differ, keys as values or shared, embeddings for each layer, and experts."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import (
    Attention,
    Decoder,
    Dense,
    DenseAndExperts,
    Experts,
    Layer,
    LayerInputs,
    Mlp,
    Norm,
    Role,
    Rope,
)
from convert.model.families import gemma, gemma2, llama
from convert.model.family import TOWERS, Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds
from convert.model.rotary import read_rope

CLASSES = ("Gemma4ForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang"})
NAMING = replace(
    gemma2.NAMING,
    names={
        **gemma2.NAMING.names,
        Role.LAYER_EMBED: "embed_tokens_per_layer",
        Role.LAYER_EMBED_PROJECTION: "per_layer_model_projection",
        Role.LAYER_EMBED_NORM: "per_layer_projection_norm",
        Role.LAYER_INPUT_GATE: "layers.{layer}.per_layer_input_gate",
        Role.LAYER_INPUT_PROJECTION: "layers.{layer}.per_layer_projection",
        Role.LAYER_INPUT_NORM: "layers.{layer}.post_per_layer_input_norm",
        (Role.LAYER_SCALE, "weight"): "layers.{layer}.layer_scalar",
        Role.DENSE_POST_NORM: "layers.{layer}.post_feedforward_layernorm_1",
        Role.EXPERTS_NORM: "layers.{layer}.pre_feedforward_layernorm_2",
        Role.EXPERTS_POST_NORM: "layers.{layer}.post_feedforward_layernorm_2",
        Role.ROUTER: "layers.{layer}.router.proj",
        (Role.ROUTER_NORM, "weight"): "layers.{layer}.router.scale",
        (Role.EXPERT_SHARES, "weight"): "layers.{layer}.router.per_expert_scale",
        (Role.EXPERT_GATE, "weight"): "layers.{layer}.experts.gate_up_proj",
        (Role.EXPERT_UP, "weight"): "layers.{layer}.experts.gate_up_proj",
        (Role.EXPERT_DOWN, "weight"): "layers.{layer}.experts.down_proj",
    },
    towers=TOWERS
    | {
        r".*layers\.\d+\.self_attn\.(k_proj|v_proj|k_norm|v_norm)\.weight": (
            "keys and values of layers that take those of others"
        ),
    },
)
PERIOD = 6
# Transformers takes these for granted.
ROPES = {
    SLIDING: {"rope_type": "default", "rope_theta": 10000.0},
    FULL: {"rope_type": "proportional", "rope_theta": 1000000.0, "partial_rotary_factor": 0.25},
}
# A frequency so slow that nothing turns.
STILL = 1e30
EXAMPLE = {
    **gemma.EXAMPLE,
    "architectures": list(CLASSES),
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "global_head_dim": 128,
    "sliding_window": 24,
    "layer_types": [SLIDING, SLIDING, FULL] * 2,
    "rope_theta": None,
    "rope_parameters": ROPES,
    "final_logit_softcapping": 30.0,
    "hidden_size_per_layer_input": 64,
    "vocab_size_per_layer_input": 512,
    "num_kv_shared_layers": 3,
    "use_double_wide_mlp": True,
}
_DENSE = {
    "hidden_size_per_layer_input": 0,
    "num_kv_shared_layers": 0,
    "use_double_wide_mlp": False,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
}
VARIANTS = {
    "dense": {**_DENSE, "final_logit_softcapping": None},
    "experts": {
        **_DENSE,
        "global_head_dim": None,
        "per_layer_config": {str(n): {"head_dim": 128, "num_key_value_heads": 1} for n in (2, 5)},
        "enable_moe_block": True,
        "num_experts": 8,
        "top_k_experts": 2,
        "moe_intermediate_size": 256,
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if config.values.get("use_bidirectional_attention") == "all":
        raise Failure(
            f'{config.where}: use_bidirectional_attention is "all": the model embeds texts and writes none',
            "modelwright converts text decoders: name a model that generates text",
        )
    gemma.check_activation(config)
    hidden, count = config.size("hidden_size"), config.size("num_hidden_layers")
    norm = Norm(config.real("rms_norm_eps", default=1e-6))
    kinds = (*read_kinds(config, every(PERIOD, count))[:-1], FULL)  # whatever is said of the last
    shared = config.count("num_kv_shared_layers", default=0)
    if shared >= count or (shared and set(kinds[: count - shared]) != set(kinds)):
        raise Failure(
            f"{config.where}: num_kv_shared_layers {shared} leaves no keys and values to share",
            "the file is damaged, or was edited; fetch it again",
        )
    inner, layers = config.size("intermediate_size"), []
    for number, kind in enumerate(kinds):
        is_shared = number >= count - shared
        mixer = _attention(config, kind, number, norm)
        if is_shared:
            giver = max(each for each in range(count - shared) if kinds[each] == kind)
            mixer = replace(mixer, kv_layer=giver, v_norm=None, is_key_value=False)
        is_wide = is_shared and config.flag("use_double_wide_mlp", default=False)
        dense = Dense(inner * 2 if is_wide else inner, activation="gelu_tanh")
        layers.append(
            Layer(
                mixer,
                _mlp(config, dense, norm, hidden),
                attn_norm=norm,
                mlp_norm=norm,
                attn_post_norm=norm,
                mlp_post_norm=norm,
                has_scale=True,
            )
        )
    vocabulary = config.size("vocab_size", default=262144)
    return Decoder(
        family="gemma4_text",
        layers=tuple(layers),
        hidden_size=hidden,
        vocab_size=vocabulary,
        context_length=config.size("max_position_embeddings", default=131072),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=True),
        embedding_scale=hidden**0.5,
        layer_inputs=_layer_inputs(config, hidden, norm),
        logit_softcap=gemma2.read_cap(config, "final_logit_softcapping"),
    )


def _attention(config: Config, kind: str, number: int, norm: Norm) -> Attention:
    """Read one layer's; what a config says of it alone goes before what it says of its kind."""
    head_size = config.size("head_dim", default=256)
    kv_heads = config.size("num_key_value_heads", default=4)
    is_key_value = kind == FULL and config.flag("attention_k_eq_v", default=False)
    if apart := config.section("per_layer_config"):
        own = apart.section(str(number)) or Config({})
        if unknown := own.values.keys() - {"head_dim", "num_key_value_heads"}:
            raise Failure(
                f"{own.where}: {min(unknown)} of a layer alone is not supported",
                "supported: head_dim, num_key_value_heads",
            )
        head_size = own.size("head_dim", default=head_size)
        kv_heads = own.size("num_key_value_heads", default=kv_heads)
    elif kind == FULL:
        head_size = config.size("global_head_dim", default=512)
        kv_heads = config.size("num_global_key_value_heads", default=kv_heads) if is_key_value else kv_heads
    heads = config.size("num_attention_heads", default=8)
    if heads % kv_heads:
        raise Failure(
            f"{config.where}: {heads} attention heads cannot share {kv_heads} key-value heads",
            "the number of heads must be a multiple of that of key-value heads",
        )
    has_bias = config.flag("attention_bias", default=False)
    ropes = Config({"rope_parameters": config.values.get("rope_parameters") or ROPES}, config.where)
    return Attention(
        heads,
        kv_heads,
        head_size,
        read_rope(ropes, head_size, default_theta=10000.0, kind=kind),
        window=config.size("sliding_window", default=512) if kind == SLIDING else None,
        has_qkv_bias=has_bias,
        has_out_bias=has_bias,
        qk_norm=norm,
        v_norm=replace(norm, has_weight=False),
        scale=1.0,
        is_key_value=is_key_value,
    )


def _mlp(config: Config, dense: Dense, norm: Norm, hidden: int) -> Mlp:
    if not config.flag("enable_moe_block", default=False):
        return dense
    experts = Experts(
        config.size("num_experts"),
        config.size("top_k_experts"),
        config.size("moe_intermediate_size", "expert_intermediate_size"),
        activation="gelu_tanh",
        router_norm=norm,
        router_scale=hidden**-0.5,
        has_shares=True,
    )
    return DenseAndExperts(dense, experts, norm)


def _layer_inputs(config: Config, hidden: int, norm: Norm) -> LayerInputs | None:
    if not (size := config.count("hidden_size_per_layer_input", default=256)):
        return None
    vocabulary = config.size("vocab_size_per_layer_input", default=262144)
    return LayerInputs(size, vocabulary, norm, size**0.5, hidden**-0.5, 2**-0.5)


def _attentions(decoder: Decoder) -> tuple[Attention, Attention]:
    """Give that of the layers which see everything, and that of those with a window."""
    ordered = sorted(decoder.attentions, key=lambda each: each.window is not None)
    return ordered[0], ordered[-1]


def _rope(attention: Attention) -> Rope:
    if attention.rope is None:
        raise TypeError("every layer of this family turns its heads")
    return attention.rope


def _limits(decoder: Decoder) -> Iterator[str]:
    whole, local = _attentions(decoder)
    if local.window is None:
        yield "a model of this family without windows"
    if _rope(local).scaling or _rope(local).spread_size:
        yield "rotary scaling in windows"
    if not _rope(whole).spread_size and _rope(whole).dimensions != whole.head_size:
        yield "rotary positions over the first dimensions of a head"
    if (inputs := decoder.layer_inputs) and inputs.vocab_size != decoder.vocab_size:
        yield "embeddings for each layer of another vocabulary"
    own = sum(attention.kv_layer is None for attention in decoder.attentions)
    for attention in decoder.attentions:
        if attention.kv_layer not in (None, own - (2 if attention.window else 1)):
            yield f"keys and values shared with layer {attention.kv_layer}"
            return


def _keys(decoder: Decoder) -> dict[str, object]:
    whole, local = _attentions(decoder)
    return {
        "attention.scale": None,  # the graph's own
        "attention.key_length": whole.head_size,
        "attention.value_length": whole.head_size,
        "attention.key_length_swa": local.head_size,
        "attention.value_length_swa": local.head_size,
        "rope.dimension_count": whole.head_size,
        "rope.dimension_count_swa": _rope(local).dimensions,
        "rope.freq_base_swa": _rope(local).theta,
        "final_logit_softcapping": decoder.logit_softcap or 0.0,  # left out, it would be 30
        "attention.shared_kv_layers": sum(each.kv_layer is not None for each in decoder.attentions),
        "attention.sliding_window_pattern": [each.window is not None for each in decoder.attentions],
        "embedding_length_per_layer_input": decoder.layer_inputs.size if decoder.layer_inputs else 0,
    }


def _computed(decoder: Decoder) -> Iterator[tuple[str, object]]:
    """Make factors for layers that see everything: what does not turn gets frequencies next to zero."""
    whole, _ = _attentions(decoder)
    factors = np.full(whole.head_size // 2, STILL, np.float32)
    factors[: _rope(whole).dimensions // 2] = 1
    yield "rope_freqs.weight", factors


GGUF = Gguf(
    "gemma4",
    renders=frozenset({
        Feature.GELU_TANH, Feature.EMBEDDING_SCALE, Feature.POST_NORM, Feature.QK_NORM, Feature.V_NORM,
        Feature.WEIGHTLESS_NORM, Feature.ATTENTION_SCALE, Feature.LOGIT_SOFTCAP, Feature.LAYER_SCALE,
        Feature.LAYER_INPUTS, Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_MIXERS,
        Feature.MIXED_MLPS, Feature.MIXED_ROTARY, Feature.PARTIAL_ROTARY, Feature.PROPORTIONAL_ROTARY,
        Feature.KEYS_AS_VALUES, Feature.SHARED_KEYS_VALUES,
        Feature.EXPERTS, Feature.DENSE_AND_EXPERTS, Feature.ROUTER_NORM, Feature.EXPERT_SHARES,
    }),
    names={Role.EXPERT_GATE: "ffn_gate_up_exps", Role.EXPERT_UP: "ffn_gate_up_exps"},
    computed=_computed,
    limits=_limits,
    keys=_keys,
    scales=llama.SCALES,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.ATTENTION_SCALE, Feature.EMBEDDING_SCALE, Feature.GELU_TANH, Feature.KEYS_AS_VALUES,
        Feature.LAYER_INPUTS, Feature.LAYER_SCALE, Feature.LOGIT_SOFTCAP, Feature.MIXED_MIXERS,
        Feature.MIXED_MLPS, Feature.MIXED_ROTARY, Feature.MIXED_WINDOWS, Feature.PARTIAL_ROTARY,
        Feature.POST_NORM, Feature.PROPORTIONAL_ROTARY, Feature.QK_NORM, Feature.SHARED_KEYS_VALUES,
        Feature.V_NORM, Feature.WEIGHTLESS_NORM, Feature.WINDOW,
    }),
)  # fmt: skip

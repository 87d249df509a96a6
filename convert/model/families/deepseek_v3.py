"""DeepSeek-V3 and R1: latent attention, experts chosen by groups, sigmoid scores and a bias."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Latent, Norm, Role
from convert.model.families import llama
from convert.model.family import Gguf, Naming
from convert.model.feature import Feature
from convert.model.rotary import yarn_scale

CLASSES = ("DeepseekV3ForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang"})
APART = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.LATENT_Q_DOWN: "layers.{layer}.self_attn.q_a_proj",
        Role.LATENT_Q_NORM: "layers.{layer}.self_attn.q_a_layernorm",
        Role.LATENT_Q_UP: "layers.{layer}.self_attn.q_b_proj",
        Role.LATENT_KV_DOWN: "layers.{layer}.self_attn.kv_a_proj_with_mqa",
        Role.LATENT_KV_NORM: "layers.{layer}.self_attn.kv_a_layernorm",
        Role.LATENT_KV_UP: "layers.{layer}.self_attn.kv_b_proj",
        (Role.ROUTER_SELECTION, "weight"): "layers.{layer}.mlp.gate.e_score_correction_bias",
        Role.SHARED_GATE: "layers.{layer}.mlp.shared_experts.gate_proj",
        Role.SHARED_UP: "layers.{layer}.mlp.shared_experts.up_proj",
        Role.SHARED_DOWN: "layers.{layer}.mlp.shared_experts.down_proj",
        Role.NEXT_EMBED_NORM: "layers.{layer}.enorm",
        Role.NEXT_HIDDEN_NORM: "layers.{layer}.hnorm",
        Role.NEXT_PROJECTION: "layers.{layer}.eh_proj",
        Role.NEXT_NORM: "layers.{layer}.shared_head.norm",
        Role.NEXT_EMBED: "layers.{layer}.embed_tokens",
        Role.NEXT_HEAD: "layers.{layer}.shared_head.head",
    },
    next_layer="layers.{layer}.",
)
FUSED = replace(
    APART,
    names={
        **APART.names,
        (Role.EXPERT_GATE, "weight"): "layers.{layer}.mlp.experts.gate_up_proj",
        (Role.EXPERT_UP, "weight"): "layers.{layer}.mlp.experts.gate_up_proj",
        (Role.EXPERT_DOWN, "weight"): "layers.{layer}.mlp.experts.down_proj",
    },
)


@cache
def _naming(count: int) -> Naming:
    """Name a model of so many layers; one for a further token is counted after them."""
    stem = "layers.{layer}."
    apart, fused = (
        replace(
            each,
            next=replace(
                each,
                prefix=each.prefix + stem.format(layer=count),
                names={role: name.removeprefix(stem) for role, name in each.names.items()},
            ),
        )
        for each in (APART, FUSED)
    )
    return replace(apart, others=(fused,))


NAMING = replace(APART, others=(FUSED,), other=lambda decoder: _naming(decoder.layer_count))
# The narrow rows are normalized with this, whatever a config says of the other norms.
LATENT_EPS = 1e-6
# Numbers of layers, and of tokens, by which llama.cpp knows models whose queries come straight.
STRAIGHT = {26: None, 27: None, 48: 128256}


def limits(decoder: Decoder) -> Iterator[str]:
    """Name what llama.cpp's graph of latent attention does not compute."""
    mixers = [layer.mixer for layer in decoder.kinds if isinstance(layer.mixer, Latent)]
    is_straight = STRAIGHT.get(decoder.layer_count, 0) in (None, decoder.vocab_size)
    if any(bool(mixer.q_rank) is is_straight for mixer in mixers):
        yield "queries that come straight from the hidden states in 26 or 27 layers only"
    if not all(mixer.rope.is_interleaved for mixer in mixers):
        yield "rotary positions over the two halves of a head"
    for scaling in {mixer.rope.scaling for mixer in mixers if mixer.rope.scaling}:
        if scaling.attention_factor or not scaling.mscale or scaling.mscale != scaling.mscale_all_dim:
            yield "YaRN scaling whose mscale is not mscale_all_dim"
    yield from limits_of_experts(decoder)
    if any(not experts.shared_size for experts in experts_of(decoder)):
        yield "experts without a shared one"


def limits_of_experts(decoder: Decoder) -> Iterator[str]:
    """Name what llama.cpp does not compute of such experts."""
    kinds = [isinstance(layer.mlp, Experts) for layer in decoder.layers]
    if not any(kinds) or kinds != sorted(kinds):
        yield "other layers than the first without experts"
    if any(each.group_count > 1 and not each.is_group_of_two for each in experts_of(decoder)):
        yield "groups of experts that are chosen by their best one"


def keys(decoder: Decoder) -> Mapping[str, Any]:
    """Say what this graph alone reads, or must not find."""
    # The graph scales attention itself by the multiplier.
    found: dict[str, Any] = {"expert_shared_feed_forward_length": None, "rope.scaling.attn_factor": None}
    scaling = decoder.rope.scaling if decoder.rope else None
    if scaling and scaling.mscale_all_dim:
        found["rope.scaling.yarn_log_multiplier"] = 0.1 * scaling.mscale_all_dim
    return found


GGUF = Gguf(
    "deepseek2",
    renders=frozenset({
        Feature.LATENT_ATTENTION, Feature.INTERLEAVED_ROTARY, Feature.ROPE_YARN, Feature.MIXED_MLPS,
        Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
        Feature.EXPERT_GROUPS, Feature.EXPERT_SCALE, Feature.UNNORMALIZED_EXPERTS,
    }),
    lost={Feature.MIXED_NORMS: "llama.cpp adds the same epsilon in all norms"},
    limits=limits,
    keys=keys,
    always=frozenset({
        "leading_dense_block_count", "expert_shared_count", "expert_weights_scale", "expert_weights_norm",
        "expert_group_count", "expert_gating_func",
    }),
)  # fmt: skip
SIZES = {
    **llama.SIZES,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "q_lora_rank": 256,
    "kv_lora_rank": 256,
    "qk_nope_head_dim": 64,
    "qk_rope_head_dim": 32,
    "v_head_dim": 64,
    "n_routed_experts": 8,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "moe_intermediate_size": 256,
    "moe_layer_freq": 1,
    "first_k_dense_replace": 1,
    "attention_bias": False,
}
YARN = {
    "type": "yarn",
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "beta_fast": 32,
    "beta_slow": 1,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
}
EXAMPLE = {
    **SIZES,
    "architectures": list(CLASSES),
    "n_group": 4,
    "topk_group": 2,
    "norm_topk_prob": True,
    "routed_scaling_factor": 2.5,
    "scoring_func": "sigmoid",
    "topk_method": "noaux_tc",
    "num_nextn_predict_layers": 1,
    "rope_scaling": YARN,
}
VARIANTS = {
    "plain": {"scoring_func": None, "topk_method": None, "n_group": 1, "topk_group": 1, "rope_scaling": None}
}


def experts_of(decoder: Decoder) -> list[Experts]:
    """List the kinds of experts of a model."""
    return [layer.mlp for layer in decoder.kinds if isinstance(layer.mlp, Experts)]


def latent(config: Config, family: str) -> Decoder:
    """Read latent attention, and MLPs without experts."""
    plain, turned = config.size("qk_nope_head_dim", default=128), config.size("qk_rope_head_dim", default=64)
    values = {
        **config.values,
        "head_dim": turned,
        "mlp_bias": False,
        "num_key_value_heads": config.size("num_attention_heads"),
    }
    decoder = llama.describe(Config(values, config.where))
    heads, rope = decoder.attention.head_count, decoder.attention.rope
    if rope is None:
        raise TypeError("every config says how positions turn")
    if config.size("num_key_value_heads", default=heads) != heads:
        raise Failure(
            f"{config.where}: num_key_value_heads is not {heads}",
            "latent attention makes keys for each head; the file is of another model, or was edited",
        )
    scale = None
    if rope.scaling and rope.scaling.mscale_all_dim:
        stretch = yarn_scale(rope.scaling.factor, rope.scaling.mscale_all_dim)
        scale = stretch * stretch * (plain + turned) ** -0.5
    has_bias = config.flag("attention_bias", default=False)
    mixer = Latent(
        heads,
        config.size("q_lora_rank") if config.has("q_lora_rank") else 0,
        config.size("kv_lora_rank", default=512),
        plain,
        replace(rope, is_interleaved=config.flag("rope_interleave", default=True)),
        config.size("v_head_dim", default=128),
        Norm(LATENT_EPS),
        scale=scale,
        has_bias=has_bias,
        has_out_bias=has_bias,
    )
    return replace(decoder.with_layers(mixer=mixer), family=family)


def with_next_layers(decoder: Decoder, config: Config, *, default: int) -> Decoder:
    """Describe the layers for further tokens that a checkpoint may have, each like the last one."""
    count = config.size("num_nextn_predict_layers", "num_mtp_layers", default=default, least=0)
    layer = replace(decoder.layers[-1], next_norm=decoder.final_norm, next_vocab_size=decoder.vocab_size)
    return replace(decoder, next_layer_count=count, next_layers=(layer,) * count)


def grouped(config: Config, *, scale: float) -> Experts:
    """Read experts that are chosen by sigmoid scores and a bias, from the best groups."""
    for key, known in (("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")):
        if (found := config.text(key, known)) != known:
            raise Failure(f"{config.where}: {key} {found!r} is not supported here", f"supported: {known}")
    size, shared = config.size("moe_intermediate_size"), config.size("n_shared_experts", default=1)
    groups, used = config.size("n_group", default=1), config.size("topk_group", default=1)
    experts = Experts(
        config.size("n_routed_experts"),
        config.size("num_experts_per_tok"),
        size,
        routing="sigmoid",
        is_normalized=config.flag("norm_topk_prob", default=True),
        scale=config.real("routed_scaling_factor", default=scale),
        has_selection_bias=True,
        group_count=groups if used < groups else 1,
        used_group_count=used if used < groups else 1,
        shared_size=size * shared,
        shared_count=shared,
        dense_size=config.size("intermediate_size"),
    )
    if experts.count % groups or experts.count < 2 * groups:
        raise Failure(
            f"{config.where}: {experts.count} experts cannot be parted in {groups} groups",
            "n_routed_experts must be a multiple of n_group; the file is damaged, or was edited",
        )
    return experts


def after_first(decoder: Decoder, config: Config, experts: Experts) -> Decoder:
    """Put experts in all layers but the first ones."""
    if config.size("moe_layer_freq", default=1) != 1:
        raise Failure(f"{config.where}: moe_layer_freq is not 1", "the published models have experts in each")
    dense = config.size("first_k_dense_replace", default=0, least=0)
    layers = (
        layer if number < dense else replace(layer, mlp=experts)
        for number, layer in enumerate(decoder.layers)
    )
    return replace(decoder, layers=tuple(layers))


def describe(config: Config) -> Decoder:
    """Read a config."""
    defaults = {"n_group": 8, "topk_group": 4, "first_k_dense_replace": 3}
    values = defaults | {key: value for key, value in config.values.items() if value is not None}
    read = Config(values, config.where)
    decoder = after_first(latent(read, "deepseek_v3"), read, grouped(read, scale=2.5))
    return with_next_layers(decoder, read, default=1)

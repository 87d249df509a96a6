"""gpt-oss: experts with biases and a clamped gate, attention sinks, and a window in every other layer."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Layer, Role
from convert.model.families import llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds, window_keys, with_windows

CLASSES = ("GptOssForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        (Role.ATTN_SINKS, "weight"): "layers.{layer}.self_attn.sinks",
        Role.ROUTER: "layers.{layer}.mlp.router",
        (Role.EXPERT_GATE, "weight"): "layers.{layer}.mlp.experts.gate_up_proj",
        (Role.EXPERT_UP, "weight"): "layers.{layer}.mlp.experts.gate_up_proj",
        (Role.EXPERT_DOWN, "weight"): "layers.{layer}.mlp.experts.down_proj",
        (Role.EXPERT_GATE, "bias"): "layers.{layer}.mlp.experts.gate_up_proj_bias",
        (Role.EXPERT_UP, "bias"): "layers.{layer}.mlp.experts.gate_up_proj_bias",
        (Role.EXPERT_DOWN, "bias"): "layers.{layer}.mlp.experts.down_proj_bias",
    },
    transposed=frozenset({Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN}),
    # Rows of the gate and of what it weighs take turns.
    runs={Role.EXPERT_GATE: lambda _decoder, _layer: 1, Role.EXPERT_UP: lambda _decoder, _layer: 1},
)
# What Transformers takes where a config says nothing.
YARN = {
    "rope_type": "yarn",
    "factor": 32.0,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "truncate": False,
    "original_max_position_embeddings": 4096,
}
LIMIT, SLOPE = 7.0, 1.702
# The last of so many layers sees everything.
PERIOD = 2


def _limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph has built in."""
    if decoder.is_tied:
        yield "a tied output head"
    if not decoder.attention.has_out_bias:
        yield "attention without biases"
    if not any(each.window for each in decoder.attentions):
        yield "a model of this family without windows"
    if any(isinstance(layer.mlp, Experts) and layer.mlp.limit != LIMIT for layer in decoder.kinds):
        yield f"gates that are not cut off at {LIMIT:g}"


GGUF = Gguf(
    "gpt-oss",
    renders=frozenset({
        Feature.EXPERTS, Feature.EXPERT_BIAS, Feature.ROUTER_BIAS, Feature.SOFTMAX_OF_CHOSEN,
        Feature.CLAMPED_SWIGLU, Feature.SINKS, Feature.WINDOW, Feature.MIXED_WINDOWS,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    names={Role.MLP_NORM: "post_attention_norm"},
    lost={Feature.EXACT_YARN: "llama.cpp begins and ends YaRN's scaling at whole dimensions"},
    limits=_limits,
    keys=lambda decoder: window_keys(decoder, PERIOD),
    always=frozenset({"key_length", "sliding_window"}),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.EXPERTS, Feature.EXPERT_BIAS, Feature.ROUTER_BIAS, Feature.SOFTMAX_OF_CHOSEN,
        Feature.CLAMPED_SWIGLU, Feature.SINKS, Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.QKV_BIAS,
        Feature.OUT_BIAS, Feature.ROPE_YARN,
    }),
    names={
        Role.EXPERT_GATE: "layers.{layer}.mlp.experts.gate_proj",
        Role.EXPERT_UP: "layers.{layer}.mlp.experts.up_proj",
        Role.EXPERT_DOWN: "layers.{layer}.mlp.experts.down_proj",
    },
    wide=frozenset({Role.ROUTER}),
    lost={Feature.EXACT_YARN: "mlx-lm begins and ends YaRN's scaling at whole dimensions"},
)  # fmt: skip
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "experts_per_token": 2,
    "sliding_window": 16,
    "layer_types": list(every(PERIOD, 4)),
    "attention_bias": True,
    "rope_theta": 150000,
    "rope_scaling": YARN,
    "initial_context_length": 4096,
    "swiglu_limit": LIMIT,
}
VARIANTS = {
    # As Transformers 5 saves it.
    "parameters": {
        "rope_theta": None,
        "rope_scaling": None,
        "rope_parameters": {**YARN, "rope_theta": 150000.0, "truncate": True},
        "layer_types": None,
        "num_key_value_heads": 4,
    },
    "uneven": {"layer_types": [FULL, SLIDING, SLIDING, FULL], "rope_scaling": {**YARN, "truncate": True}},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if config.real("swiglu_alpha", default=SLOPE) != SLOPE:
        raise Failure(f"{config.where}: swiglu_alpha is not {SLOPE}", "the published models have it so")
    values = {**config.values, "head_dim": config.size("head_dim", default=64)}
    if not (config.has("rope_parameters") or config.has("rope_scaling")):
        values["rope_scaling"] = YARN
    values.setdefault("rope_theta", 150000.0)
    values.setdefault("rms_norm_eps", 1e-5)
    has_bias = values["attention_bias"] = config.flag("attention_bias", default=True)
    decoder = llama.describe(Config(values, config.where))
    size = config.size("intermediate_size")
    experts = Experts(
        config.size("num_local_experts", "num_experts"),
        config.size("num_experts_per_tok", "experts_per_token"),
        size,
        activation="swiglu_clamped",
        routing="softmax_chosen",
        has_bias=True,
        has_router_bias=True,
        limit=config.real("swiglu_limit", default=LIMIT),
        dense_size=size,
    )
    window = config.size("sliding_window", default=128)
    kinds = read_kinds(config, every(PERIOD, decoder.layer_count))
    attention = replace(decoder.attention, has_sinks=True, has_qkv_bias=has_bias, has_out_bias=has_bias)
    layer = Layer(attention, experts, attn_norm=decoder.final_norm, mlp_norm=decoder.final_norm)
    decoder = replace(decoder, family="gpt_oss", layers=(layer,) * decoder.layer_count)
    return with_windows(decoder, kinds, window)

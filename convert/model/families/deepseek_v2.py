"""DeepSeek-V2 and its Lite and Coder models: latent attention, and experts chosen by a softmax."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Role
from convert.model.families import deepseek_v3
from convert.model.family import Mlx
from convert.model.feature import Feature

CLASSES = ("DeepseekV2ForCausalLM",)
RUNS_IN = deepseek_v3.RUNS_IN
NAMING = deepseek_v3.NAMING
GGUF = replace(
    deepseek_v3.GGUF,
    always=deepseek_v3.GGUF.always - {"expert_weights_norm"},
)
MLX = Mlx(
    renders=frozenset({
        Feature.EXPERTS, Feature.EXPERT_GROUPS, Feature.EXPERT_SCALE, Feature.INTERLEAVED_ROTARY,
        Feature.LATENT_ATTENTION, Feature.MIXED_MLPS, Feature.ROPE_YARN, Feature.SHARED_EXPERTS,
        Feature.UNNORMALIZED_EXPERTS,
    }),
    bare=frozenset({Role.ROUTER}),
    limits=lambda decoder: (
        [] if decoder.rope and decoder.rope.scaling else ["rotary positions without YaRN scaling"]
    ),
)  # fmt: skip
EXAMPLE = {
    **deepseek_v3.SIZES,
    "architectures": list(CLASSES),
    "n_group": 1,
    "topk_group": 1,
    "norm_topk_prob": False,
    "routed_scaling_factor": 1.0,
    "n_shared_experts": 2,
    "scoring_func": "softmax",
    "topk_method": "greedy",
    "rope_scaling": {**deepseek_v3.YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
}
VARIANTS = {
    # As the Lite models are: llama.cpp knows them by their number of layers.
    "lite": {
        "num_hidden_layers": 27,
        "hidden_size": 64,
        "intermediate_size": 64,
        "moe_intermediate_size": 32,
        "kv_lora_rank": 64,
        "qk_nope_head_dim": 32,
        "v_head_dim": 32,
        "q_lora_rank": None,
        "rope_scaling": None,
    },
    "grouped": {
        "n_group": 4,
        "topk_group": 2,
        "topk_method": "group_limited_greedy",
        "routed_scaling_factor": 16.0,
    },
}
METHODS = ("greedy", "group_limited_greedy")


def describe(config: Config) -> Decoder:
    """Read a config."""
    if (scoring := config.text("scoring_func", "softmax")) != "softmax":
        raise Failure(f"{config.where}: scoring_func {scoring!r} is not supported here", "supported: softmax")
    if (method := config.text("topk_method", "greedy")) not in METHODS:
        raise Failure(
            f"{config.where}: topk_method {method!r} is not supported here",
            f"supported: {', '.join(METHODS)}",
        )
    # The models' own code reads it, and Transformers' does not.
    if config.flag("norm_topk_prob", default=False):
        raise Failure(f"{config.where}: norm_topk_prob is on", "the published models have it off")
    if config.flag("mlp_bias", default=False):
        raise Failure(f"{config.where}: mlp_bias is on", "the published models have it off")
    size, shared = config.size("moe_intermediate_size"), config.size("n_shared_experts", default=2)
    groups = config.size("n_group", default=1) if method == "group_limited_greedy" else 1
    used = config.size("topk_group", default=1)
    experts = Experts(
        config.size("n_routed_experts"),
        config.size("num_experts_per_tok"),
        size,
        is_normalized=False,
        scale=config.real("routed_scaling_factor", default=1.0),
        group_count=groups if used < groups else 1,
        used_group_count=used if used < groups else 1,
        is_group_of_two=False,
        shared_size=size * shared,
        shared_count=shared,
        dense_size=config.size("intermediate_size"),
    )
    # Neighbors turn together, whatever a config says.
    values = {**config.values, "rope_interleave": True}
    decoder = deepseek_v3.latent(Config(values, config.where), "deepseek_v2")
    return deepseek_v3.after_first(decoder, config, experts)

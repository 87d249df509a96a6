"""MiniMax-M2: experts chosen by sigmoid scores and a bias; norms over all queries and over all keys."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Part, Role
from convert.model.families import llama, mixtral
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("MiniMaxM2ForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang"})
_BIAS: tuple[Role, Part] = (Role.ROUTER_SELECTION, "weight")
FUSED = replace(
    mixtral.FUSED, names={**mixtral.FUSED.names, _BIAS: "layers.{layer}.mlp.e_score_correction_bias"}
)
NAMING = replace(
    mixtral.APART,
    names={**mixtral.APART.names, _BIAS: "layers.{layer}.block_sparse_moe.e_score_correction_bias"},
    others=(FUSED,),
)


def _limits(decoder: Decoder) -> Iterator[str]:
    if decoder.is_tied:
        yield "a tied output head"


GGUF = Gguf(
    "minimax-m2",
    renders=frozenset({
        Feature.QK_NORM, Feature.QK_NORM_ROW, Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
        Feature.EXPERTS, Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
    }),
    limits=_limits,
    always=frozenset({"key_length"}),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.QK_NORM, Feature.QK_NORM_ROW, Feature.PARTIAL_ROTARY, Feature.EXPERTS,
        Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
    }),
    names=mixtral.MLX.names,
    wide=frozenset({Role.ROUTER}),
    exact=frozenset({Role.ROUTER_SELECTION}),
    defaults=lambda _decoder: {"shared_intermediate_size": 0},
)  # fmt: skip
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "intermediate_size": 256,
    "num_experts_per_tok": 2,
    "num_local_experts": 8,
    "qk_norm_type": "per_layer",
    "rope_theta": 5000000,
    "rotary_dim": 32,
    "scoring_func": "sigmoid",
    "use_qk_norm": True,
    "use_routing_bias": True,
}
# What the model's own code could do otherwise, and Transformers' does not.
FIXED = {
    "qk_norm_type": "per_layer",
    "scoring_func": "sigmoid",
    "shared_intermediate_size": 0,
    "use_qk_norm": True,
    "use_routing_bias": True,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    for key, value in FIXED.items():
        if config.has(key) and config.values[key] != value:
            raise Failure(
                f"{config.where}: {key} {config.values[key]!r} is not supported here", f"supported: {value!r}"
            )
    head_size = config.size("head_dim", default=128)
    values = {"rope_theta": 5000000.0, **config.values, "head_dim": head_size}
    if config.has("rotary_dim"):
        values.setdefault("partial_rotary_factor", config.size("rotary_dim") / head_size)
    decoder = llama.describe(Config(values, config.where))
    size = config.size("intermediate_size")
    experts = Experts(
        count=config.size("num_local_experts"),
        used_count=config.size("num_experts_per_tok"),
        size=size,
        routing="sigmoid",
        has_selection_bias=True,
        dense_size=size,
    )
    return (
        replace(decoder, family="minimax_m2")
        .with_mixers(qk_norm=decoder.final_norm, qk_norm_span="row")
        .with_layers(mlp=experts)
    )

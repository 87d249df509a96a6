"""LFM2 with experts, chosen by sigmoid scores and a bias, in all but the first layers."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Dense, Experts, Role
from convert.model.families import lfm2
from convert.model.family import Genai, Mlx
from convert.model.feature import Feature

CLASSES = ("Lfm2MoeForCausalLM",)
RUNS_IN = frozenset({"vllm"})
NAMING = replace(
    lfm2.NAMING,
    names={
        **lfm2.NAMING.names,
        Role.ROUTER: "layers.{layer}.feed_forward.gate",
        (Role.ROUTER_SELECTION, "weight"): "layers.{layer}.feed_forward.expert_bias",
        Role.EXPERT_GATE: "layers.{layer}.feed_forward.experts.{expert}.w1",
        Role.EXPERT_UP: "layers.{layer}.feed_forward.experts.{expert}.w3",
        Role.EXPERT_DOWN: "layers.{layer}.feed_forward.experts.{expert}.w2",
    },
)


def _limits(decoder: Decoder) -> Iterator[str]:
    if not all(layer.mlp.has_selection_bias for layer in decoder.layers if isinstance(layer.mlp, Experts)):
        yield "experts chosen without a bias"


def _keys(decoder: Decoder) -> dict[str, int]:
    """Say the width of the first layers' MLPs alone, as one number."""
    sizes = [layer.mlp.size for layer in decoder.layers if isinstance(layer.mlp, Dense)]
    return {"feed_forward_length": sizes[0] if sizes else 0}


GGUF = replace(
    lfm2.GGUF,
    architecture="lfm2moe",
    renders=lfm2.GGUF.renders | {
        Feature.EXPERTS, Feature.MIXED_MLPS, Feature.SIGMOID_ROUTING, Feature.SELECTION_BIAS,
    },
    always=frozenset({"leading_dense_block_count"}),
    limits=_limits,
    keys=_keys,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.EXPERTS, Feature.MIXED_MIXERS, Feature.MIXED_MLPS, Feature.QK_NORM, Feature.SELECTION_BIAS,
        Feature.SHORT_CONVOLUTION, Feature.SIGMOID_ROUTING,
    }),
    names={
        Role.MLP_GATE: "layers.{layer}.feed_forward.gate_proj",
        Role.MLP_UP: "layers.{layer}.feed_forward.up_proj",
        Role.MLP_DOWN: "layers.{layer}.feed_forward.down_proj",
        Role.EXPERT_GATE: "layers.{layer}.feed_forward.switch_mlp.gate_proj",
        Role.EXPERT_UP: "layers.{layer}.feed_forward.switch_mlp.up_proj",
        Role.EXPERT_DOWN: "layers.{layer}.feed_forward.switch_mlp.down_proj",
    },
    wide=frozenset({Role.ROUTER}),
    exact=frozenset({Role.ROUTER_SELECTION}),
    limits=lambda decoder: [] if decoder.is_tied else ["a head apart from the embedding"],
)  # fmt: skip
GENAI = Genai("lfm2_moe")
EXAMPLE = {
    **lfm2.SIZES,
    "architectures": list(CLASSES),
    "layer_types": ["conv", "conv", "full_attention", "conv", "full_attention"],
    "num_dense_layers": 2,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "norm_topk_prob": True,
    "routed_scaling_factor": 1.0,
    "use_expert_bias": True,
}
VARIANTS = {"sparse": {"num_dense_layers": 1, "num_experts": 4, "tie_embedding": False}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = lfm2.mixed(config, "lfm2_moe")
    experts = Experts(
        count=config.size("num_experts"),
        used_count=config.size("num_experts_per_tok"),
        size=config.size("moe_intermediate_size"),
        routing="sigmoid",
        is_normalized=config.flag("norm_topk_prob", default=True),
        scale=config.real("routed_scaling_factor", default=1.0),
        has_selection_bias=config.flag("use_expert_bias", default=True),
    )
    dense_count = config.size("num_dense_layers", default=2, least=0)
    layers = tuple(
        layer if number < dense_count else replace(layer, mlp=experts)
        for number, layer in enumerate(decoder.layers)
    )
    return replace(decoder, layers=layers)

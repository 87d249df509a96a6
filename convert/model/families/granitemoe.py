"""Granite with experts, whose gates and inner rows lie in one tensor."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Role
from convert.model.families import granite, llama
from convert.model.feature import Feature

CLASSES = ("GraniteMoeForCausalLM",)
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ROUTER: "layers.{layer}.block_sparse_moe.router.layer",
        Role.EXPERT_GATE: "layers.{layer}.block_sparse_moe.input_linear",
        Role.EXPERT_UP: "layers.{layer}.block_sparse_moe.input_linear",
        Role.EXPERT_DOWN: "layers.{layer}.block_sparse_moe.output_linear",
    },
)
RUNS_IN = frozenset({"vllm"})


def keys(decoder: Decoder) -> dict[str, object]:
    """Write the multipliers; the experts are as wide as this graph's MLPs."""
    return {**granite.keys(decoder), "expert_feed_forward_length": None}


GGUF = replace(
    granite.GGUF,
    architecture="granitemoe",
    renders=granite.GGUF.renders - {Feature.MLP_BIAS} | {Feature.EXPERTS},
    keys=keys,
)
MLX = replace(
    granite.MLX,
    renders=granite.MLX.renders - {Feature.MLP_BIAS} | {Feature.EXPERTS},
    names={
        Role.EXPERT_GATE: "layers.{layer}.block_sparse_moe.switch_mlp.gate_proj",
        Role.EXPERT_UP: "layers.{layer}.block_sparse_moe.switch_mlp.up_proj",
        Role.EXPERT_DOWN: "layers.{layer}.block_sparse_moe.switch_mlp.down_proj",
    },
    wide=frozenset({Role.ROUTER, Role.ATTN_OUT, Role.EXPERT_DOWN, Role.HEAD}),
)
EXAMPLE = {
    **{key: value for key, value in granite.EXAMPLE.items() if key != "mlp_bias"},
    "architectures": list(CLASSES),
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "intermediate_size": 256,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    return replace(granite.describe(config), family="granitemoe").with_layers(mlp=read_experts(config))


def read_experts(config: Config) -> Experts:
    """Read how many experts there are, and how wide they are."""
    size = config.size("intermediate_size")
    return Experts(
        count=config.size("num_local_experts", default=8),
        used_count=config.size("num_experts_per_tok", default=2),
        size=size,
        dense_size=size,
    )

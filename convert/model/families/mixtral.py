"""Mixtral: Mistral with experts."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Role
from convert.model.families import llama, mistral, qwen2_moe
from convert.model.family import Mlx
from convert.model.feature import Feature

CLASSES = ("MixtralForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang", "tgi"})
APART = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ROUTER: "layers.{layer}.block_sparse_moe.gate",
        Role.EXPERT_GATE: "layers.{layer}.block_sparse_moe.experts.{expert}.w1",
        Role.EXPERT_UP: "layers.{layer}.block_sparse_moe.experts.{expert}.w3",
        Role.EXPERT_DOWN: "layers.{layer}.block_sparse_moe.experts.{expert}.w2",
    },
)
FUSED = replace(llama.NAMING, names={**llama.NAMING.names, **qwen2_moe.FUSED_NAMES})
NAMING = replace(APART, others=(FUSED,))
GGUF = replace(
    llama.GGUF,
    renders=llama.GGUF.renders | {Feature.EXPERTS},
    # The experts are as wide as this graph's MLPs.
    keys=lambda _decoder: {"expert_feed_forward_length": None},
)
MLX = Mlx(
    renders=frozenset({Feature.EXPERTS}),
    names={
        Role.EXPERT_GATE: "layers.{layer}.block_sparse_moe.switch_mlp.gate_proj",
        Role.EXPERT_UP: "layers.{layer}.block_sparse_moe.switch_mlp.up_proj",
        Role.EXPERT_DOWN: "layers.{layer}.block_sparse_moe.switch_mlp.down_proj",
    },
)
EXAMPLE = {
    **mistral.EXAMPLE,
    "architectures": list(CLASSES),
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "rope_theta": 1e6,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    size = config.size("intermediate_size")
    experts = Experts(
        count=config.size("num_local_experts"),
        used_count=config.size("num_experts_per_tok"),
        size=size,
        dense_size=size,
    )
    return replace(mistral.describe(config), family="mixtral").with_layers(mlp=experts)

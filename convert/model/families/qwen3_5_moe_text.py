"""Qwen3.5 and 3.6 with experts, one of which sees every token, behind a gate."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Experts, Role
from convert.model.families import llama, qwen2_moe, qwen3_5_text
from convert.model.feature import Feature

CLASSES = ("Qwen3_5MoeForCausalLM",)
RUNS_IN = qwen3_5_text.RUNS_IN
FASTCHAT_PROMPT = qwen3_5_text.FASTCHAT_PROMPT
APART = replace(
    qwen3_5_text.TRUNK,
    names={
        **qwen3_5_text.TRUNK.names,
        Role.SHARED_ROUTER: qwen2_moe.NAMING.names[Role.SHARED_ROUTER],
    },
)
# As the published models have it.
FUSED = replace(APART, names={**APART.names, **qwen2_moe.FUSED_NAMES})
NAMING = replace(qwen3_5_text.with_next_naming(APART), others=(qwen3_5_text.with_next_naming(FUSED),))
GGUF = replace(
    qwen3_5_text.GGUF,
    architecture="qwen35moe",
    renders=qwen3_5_text.GGUF.renders
    | {Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.GATED_SHARED_EXPERT},
    scales=qwen3_5_text.GGUF.scales
    | llama.EXPERT_SCALES
    | {Role.SHARED_GATE, Role.SHARED_UP, Role.SHARED_DOWN},
)
EXAMPLE = {key: value for key, value in qwen3_5_text.EXAMPLE.items() if key != "intermediate_size"} | {
    "architectures": list(CLASSES),
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 256,
    "shared_expert_intermediate_size": 256,
    "tie_word_embeddings": False,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    experts = Experts(
        count=config.size("num_experts"),
        used_count=config.size("num_experts_per_tok"),
        size=config.size("moe_intermediate_size"),
        shared_size=config.size("shared_expert_intermediate_size"),
        has_shared_router=True,
    )
    decoder = qwen3_5_text.mixed(config, "qwen3_5_moe_text").with_layers(mlp=experts)
    return qwen3_5_text.with_next_layers(qwen3_5_text.with_sections(decoder, config), config)

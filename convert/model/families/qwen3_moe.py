"""Qwen3's mixtures of experts (30B-A3B, 235B-A22B, Coder)."""

from dataclasses import replace
from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama, qwen2, qwen2_moe, qwen3
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import SLIDING

CLASSES = ("Qwen3MoeForCausalLM",)
NAMING = qwen2_moe.NAMING
RUNS_IN = qwen2_moe.RUNS_IN
FASTCHAT_PROMPT = qwen3.FASTCHAT_PROMPT
TOKENIZER = qwen3.TOKENIZER
GGUF = Gguf(
    "qwen3moe",
    renders=qwen3.GGUF.renders | {Feature.EXPERTS},
    always=frozenset({"key_length"}),
    scales=llama.SCALES | llama.EXPERT_SCALES,
)
MLX = Mlx(
    renders=frozenset({
        Feature.EXPERTS, Feature.MIXED_MLPS, Feature.QK_NORM, Feature.ROPE_YARN,
        Feature.UNNORMALIZED_EXPERTS,
    }),
    wide=frozenset({Role.ROUTER}),
)  # fmt: skip
EXAMPLE = {
    **qwen2_moe.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "norm_topk_prob": True,
    "sliding_window": None,
    "use_sliding_window": False,
}
VARIANTS = {"unnormalized": {"norm_topk_prob": False, "decoder_sparse_step": 2}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(qwen3.read(config), family="qwen3_moe")
    # Where there are windows, every layer has one.
    decoder = qwen2.with_windows(decoder, config, [SLIDING] * decoder.layer_count)
    return qwen2_moe.with_experts(decoder, config, qwen2_moe.read_experts(config))


def written(decoder: Decoder, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Say in this family's words what the source's config says in those of one like it."""
    experts = next(layer.experts for layer in decoder.layers if layer.experts)
    return {
        **qwen3.written(decoder, bos_id, eos_id),
        "architectures": list(CLASSES),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [number for number, layer in enumerate(decoder.layers) if layer.dense],
        "moe_intermediate_size": experts.size,
        "norm_topk_prob": experts.is_normalized,
        "num_experts": experts.count,
        "num_experts_per_tok": experts.used_count,
    }

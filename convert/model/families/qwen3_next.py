"""Qwen3-Next: three layers of the gated delta rule for each one of gated attention, and experts."""

from dataclasses import replace

from convert.model.arrange import AddOne
from convert.model.config import Config
from convert.model.decoder import Decoder, Delta, Role
from convert.model.families import qwen2_moe, qwen3_5_text
from convert.model.family import Mlx
from convert.model.feature import Feature

CLASSES = ("Qwen3NextForCausalLM",)
UNQUANTIZED = {"awq": "routers, which GPTQModel would quantize as well"}
RUNS_IN = qwen3_5_text.RUNS_IN
FASTCHAT_PROMPT = qwen2_moe.FASTCHAT_PROMPT
TOKENIZER = replace(qwen2_moe.TOKENIZER, classes=())


def _keys(decoder: Decoder, layer: int) -> int:
    return qwen3_5_text.delta_of(decoder, layer).key_size


def _shared(mixer: Delta) -> int:
    return mixer.value_head_count // mixer.key_head_count


def _values(decoder: Decoder, layer: int) -> int:
    mixer = qwen3_5_text.delta_of(decoder, layer)
    return _shared(mixer) * mixer.value_size


def _scalars(decoder: Decoder, layer: int) -> int:
    return _shared(qwen3_5_text.delta_of(decoder, layer))


# Of each head of keys: its query, its key, the values that share it and their gates.
SCALAR_RUNS = {Role.DELTA_BETA: _scalars, Role.DELTA_ALPHA: _scalars}
APART = replace(
    qwen2_moe.APART,
    names={
        **qwen2_moe.APART.names,
        **qwen3_5_text.DELTA_NAMES,
        Role.DELTA_Q: "layers.{layer}.linear_attn.in_proj_qkvz",
        Role.DELTA_K: "layers.{layer}.linear_attn.in_proj_qkvz",
        Role.DELTA_V: "layers.{layer}.linear_attn.in_proj_qkvz",
        Role.DELTA_GATE: "layers.{layer}.linear_attn.in_proj_qkvz",
        Role.DELTA_BETA: "layers.{layer}.linear_attn.in_proj_ba",
        Role.DELTA_ALPHA: "layers.{layer}.linear_attn.in_proj_ba",
    },
    runs={
        Role.DELTA_Q: _keys,
        Role.DELTA_K: _keys,
        Role.DELTA_V: _values,
        Role.DELTA_GATE: _values,
        **SCALAR_RUNS,
    },
)
FUSED = replace(APART, names={**APART.names, **qwen2_moe.FUSED_NAMES})
NAMING = replace(qwen3_5_text.with_next_naming(APART), others=(qwen3_5_text.with_next_naming(FUSED),))
GGUF = replace(
    qwen3_5_text.GGUF,
    architecture="qwen3next",
    renders=qwen3_5_text.GGUF.renders
    | {Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.GATED_SHARED_EXPERT},
    names={
        **qwen3_5_text.GGUF.names,
        **dict.fromkeys(SCALAR_RUNS, "ssm_ba"),
    },
    # This graph has the heads in the source's order.
    order={},
    runs=SCALAR_RUNS,
    arranged={Role.DELTA_DECAY: qwen3_5_text.GGUF.arranged[Role.DELTA_DECAY]},
)
MLX = Mlx(
    renders=frozenset({
        Feature.DELTA_RULE, Feature.EXPERTS, Feature.GATED_ATTENTION, Feature.GATED_SHARED_EXPERT,
        Feature.MIXED_MIXERS, Feature.OFFSET_NORM, Feature.PARTIAL_ROTARY, Feature.QK_NORM,
        Feature.SHARED_EXPERTS,
    }),
    wide=frozenset({Role.ROUTER, Role.SHARED_ROUTER}),
    arranged=dict.fromkeys(
        (Role.ATTN_NORM, Role.MLP_NORM, Role.ATTN_Q_NORM, Role.ATTN_K_NORM, Role.FINAL_NORM), AddOne()
    ),
)  # fmt: skip
EXAMPLE = {
    **qwen2_moe.SIZES,
    **qwen3_5_text.DELTA_SIZES,
    "architectures": list(CLASSES),
    "norm_topk_prob": True,
    "partial_rotary_factor": 0.25,
    "rope_theta": 10000000,
    "shared_expert_intermediate_size": 256,
}
VARIANTS = {
    "alike_heads": {"linear_num_key_heads": 4, "num_hidden_layers": 3, "full_attention_interval": 3},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    experts = replace(
        qwen2_moe.read_experts(config),
        is_normalized=config.flag("norm_topk_prob", default=True),
        shared_size=config.size("shared_expert_intermediate_size"),
        has_shared_router=True,
    )
    decoder = qwen2_moe.with_experts(qwen3_5_text.mixed(config, "qwen3_next"), config, experts)
    return qwen3_5_text.with_next_layers(decoder, config)

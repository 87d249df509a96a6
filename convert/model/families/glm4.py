"""GLM-4 (0414, Z1): Llama with norms before and after, and neighbors that turn together in half a head."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama, phi3
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Glm4ForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang"})
APART = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_POST_NORM: "layers.{layer}.post_self_attn_layernorm",
        Role.MLP_POST_NORM: "layers.{layer}.post_mlp_layernorm",
    },
)
NAMING = replace(APART, names={**APART.names, **phi3.FUSED_MLP}, others=(APART,))
GGUF = Gguf(
    "glm4",
    renders=frozenset({
        Feature.POST_NORM, Feature.QKV_BIAS, Feature.PARTIAL_ROTARY, Feature.INTERLEAVED_ROTARY,
        Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    names={Role.MLP_GATE: "ffn_up"},
    is_interleaved=True,
    always=frozenset({"key_length"}),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.INTERLEAVED_ROTARY, Feature.PARTIAL_ROTARY, Feature.POST_NORM, Feature.QKV_BIAS,
    }),
)  # fmt: skip
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "intermediate_size": 512,
    "attention_bias": True,
    "partial_rotary_factor": 0.5,
    "bos_token_id": None,
    "eos_token_id": [1, 2],
    "pad_token_id": 1,
}
VARIANTS = {
    "parameters": {
        "attention_bias": False,
        "rope_theta": None,
        "partial_rotary_factor": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    defaults = {
        "partial_rotary_factor": 0.5,
        "attention_bias": True,
        "head_dim": 128,
        "rms_norm_eps": 1.5625e-7,
    }
    given = {key: value for key, value in config.values.items() if value is not None}
    decoder = llama.describe(Config(defaults | given, config.where))
    norm, rope = decoder.final_norm, decoder.rope
    if rope is None:
        raise TypeError("every config says how positions turn")
    decoder = decoder.with_mixers(has_out_bias=False, rope=replace(rope, is_interleaved=True))
    return replace(decoder.with_layers(attn_post_norm=norm, mlp_post_norm=norm), family="glm4")

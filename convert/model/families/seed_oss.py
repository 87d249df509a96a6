"""Seed-OSS: Llama with wide heads and biases on q, k and v."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("SeedOssForCausalLM",)
RUNS_IN = frozenset({"vllm"})
NAMING = llama.NAMING
GGUF = Gguf(
    "seed_oss",
    renders=frozenset({Feature.QKV_BIAS, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    names={Role.MLP_NORM: "post_attention_norm"},
)
MLX = Mlx(renders=frozenset({Feature.QKV_BIAS}))
EXAMPLE = {**llama.SIZES, "architectures": list(CLASSES), "head_dim": 64, "attention_bias": True}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(llama.describe(config), family="seed_oss")
    return decoder.with_mixers(
        has_qkv_bias=config.flag("attention_bias", default=True),
        has_out_bias=config.flag("attention_out_bias", default=False),
    )

"""Ministral 3: Llama with YaRN, and queries that grow with the logarithm of their position."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Temperature
from convert.model.families import llama, mistral
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Ministral3ForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
# Transformers takes these for granted.
ROPE = {
    "rope_type": "yarn",
    "rope_theta": 1000000.0,
    "factor": 16.0,
    "original_max_position_embeddings": 16384,
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "mscale": 1.0,
    "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "num_attention_heads": 4,
    "tie_word_embeddings": True,
    "sliding_window": None,
    "rope_theta": None,
    "rope_parameters": {**ROPE, "type": "yarn", "original_max_position_embeddings": 16},
}
VARIANTS = {
    "untied": {
        "tie_word_embeddings": False,
        "rope_parameters": {
            **ROPE, "factor": 4.0, "original_max_position_embeddings": 64, "mscale": 0.7, "beta_fast": 8.0,
        },
    },
    "plain": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "original_max_position_embeddings": 256,
            "llama_4_scaling_beta": 0.2,
        }
    },
}  # fmt: skip


def describe(config: Config) -> Decoder:
    """Read a config."""
    values = {**config.values, "rope_parameters": config.values.get("rope_parameters") or ROPE}
    values["head_dim"] = config.size("head_dim", default=128)
    config = Config(values, config.where)
    rope = config.section("rope_parameters") or Config({})
    temperature = None
    if rope.values.get("llama_4_scaling_beta"):
        length = rope.size("original_max_position_embeddings")
        temperature = Temperature(rope.real("llama_4_scaling_beta"), length)
    return replace(mistral.describe(config), family="ministral3").with_mixers(temperature=temperature)


def _limits(decoder: Decoder) -> Iterator[str]:
    temperature, scaling = decoder.attention.temperature, decoder.rope.scaling if decoder.rope else None
    original = scaling.original_context_length if scaling else 0
    if temperature and temperature.length != (original or decoder.context_length):
        yield f"queries scaled in steps of {temperature.length} positions"


def _keys(decoder: Decoder) -> dict[str, object]:
    temperature, scaling = decoder.attention.temperature, decoder.rope.scaling if decoder.rope else None
    keys: dict[str, object] = {}
    if temperature:
        keys["attention.temperature_scale"] = temperature.scale
    # The graph computes the factor of attention by itself from this, for a measure of one.
    if scaling and scaling.mscale == 1 and scaling.mscale_all_dim and scaling.attention_factor is None:
        keys["rope.scaling.yarn_log_multiplier"] = scaling.mscale_all_dim
        keys["rope.scaling.attn_factor"] = None
    return keys


GGUF = Gguf(
    "mistral3",
    renders=frozenset({
        Feature.QUERY_TEMPERATURE, Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3, Feature.ROPE_YARN,
        Feature.YARN_TURNS,
    }),
    is_interleaved=True,
    always=frozenset({"key_length"}),
    limits=_limits,
    keys=_keys,
    scales=llama.SCALES,
)  # fmt: skip
MLX = Mlx(renders=frozenset({Feature.QUERY_TEMPERATURE, Feature.ROPE_YARN, Feature.YARN_TURNS}))

"""OLMo: layer norms without weights, and queries, keys and values that may be clipped."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Norm
from convert.model.families import llama
from convert.model.family import Gguf
from convert.model.feature import Feature

CLASSES = ("OlmoForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
GGUF = Gguf(
    "olmo",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.WEIGHTLESS_NORM, Feature.CLIPPED_QKV,
        Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    is_interleaved=True,
    limits=llama.square_limits,
    large_layers=80,
)  # fmt: skip
EXAMPLE = {
    **{key: value for key, value in llama.SIZES.items() if key != "rms_norm_eps"},
    "architectures": list(CLASSES),
    "num_key_value_heads": 8,
    "clip_qkv": 2.0,
}
VARIANTS = {"unclipped": {"clip_qkv": None, "tie_word_embeddings": True, "num_key_value_heads": 4}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    norm = Norm(1e-5, "layer", has_weight=False)
    clip = config.real("clip_qkv") if config.has("clip_qkv") else None
    return replace(llama.describe(config), family="olmo").with_norm(norm).with_mixers(clip=clip)

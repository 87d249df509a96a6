"""ERNIE 4.5: Llama whose neighboring dimensions turn together."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import Gguf
from convert.model.feature import Feature

CLASSES = ("Ernie4_5ForCausalLM", "Ernie4_5_ForCausalLM")
RUNS_IN = frozenset({"vllm"})
NAMING = llama.NAMING
GGUF = Gguf(
    "ernie4_5",
    renders=frozenset({Feature.INTERLEAVED_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    is_interleaved=True,
)
SIZES = {
    **llama.SIZES,
    "intermediate_size": 512,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
    "use_bias": False,
}
EXAMPLE = {**SIZES, "architectures": list(CLASSES[:1]), "head_dim": 64}
VARIANTS = {
    "parameters": {
        "rope_theta": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "head_dim": 32,
        "tie_word_embeddings": False,
    },
}


def read(config: Config, family: str, **defaults: object) -> Decoder:
    """Read what the models with and without experts have in common."""
    has_bias = config.flag("use_bias", default=False)
    defaults = {"rope_theta": 500000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, **defaults}
    given = {key: value for key, value in config.values.items() if value is not None}
    values = {**defaults, **given, "attention_bias": has_bias, "mlp_bias": has_bias}
    decoder = llama.describe(Config(values, config.where))
    if (rope := decoder.rope) is None:
        raise TypeError("every config says how positions turn")
    return replace(decoder.with_mixers(rope=replace(rope, is_interleaved=True)), family=family)


def describe(config: Config) -> Decoder:
    """Read a config."""
    return read(config, "ernie4_5", head_dim=128)

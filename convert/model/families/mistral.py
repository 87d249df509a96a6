"""Mistral: Llama with a window of attention in its first version."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import CTranslate2
from convert.model.feature import Feature

CLASSES = ("MistralForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = llama.RUNS_IN
GGUF = llama.GGUF
MLX = llama.MLX
CTRANSLATE2 = CTranslate2(renders=frozenset({Feature.WINDOW}), says_head_size=True)
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "num_key_value_heads": 4,
    "sliding_window": None,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    window = config.size("sliding_window") if config.has("sliding_window") else None
    return replace(llama.describe(config), family="mistral").with_mixers(window=window)

"""Mistral: Llama with a window of attention in its first version."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama

CLASSES = ("MistralForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = llama.RUNS_IN


def describe(config: Config) -> Decoder:
    """Read a Mistral config."""
    window = config.size("sliding_window") if config.has("sliding_window") else None
    return replace(llama.describe(config), family="mistral", sliding_window=window)

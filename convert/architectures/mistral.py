"""Mistral: Llama with a window of attention in its first version."""

from dataclasses import replace

from convert.architectures import llama
from convert.config import Config
from convert.decoder import Decoder

CLASSES = ("MistralForCausalLM",)
NAMING = llama.NAMING


def describe(config: Config) -> Decoder:
    """Read a Mistral config."""
    decoder = llama.describe(config)
    window = config.size("sliding_window") if config.has("sliding_window") else None
    deviations = decoder.deviations
    if window is not None and window < decoder.context_length:
        deviations += (f"attention over the last {window} tokens only is not carried: all are seen",)
    return replace(decoder, family="mistral", sliding_window=window, deviations=deviations)

"""Qwen3: Qwen2 without the biases, with norms on each head's q and k."""

from dataclasses import replace

from convert.architectures import llama, qwen2
from convert.config import Config
from convert.decoder import Decoder

CLASSES = ("Qwen3ForCausalLM",)
NAMING = llama.NAMING


def describe(config: Config) -> Decoder:
    """Read a Qwen3 config."""
    has_bias = config.flag("attention_bias", default=False)
    return replace(qwen2.describe(config), family="qwen3", has_qkv_bias=has_bias, has_qk_norm=True)

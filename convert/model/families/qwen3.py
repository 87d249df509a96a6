"""Qwen3: Qwen2 without the biases, with norms on each head's q and k."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama, qwen2

CLASSES = ("Qwen3ForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = llama.RUNS_IN
FASTCHAT_PROMPT = qwen2.FASTCHAT_PROMPT


def describe(config: Config) -> Decoder:
    """Read a Qwen3 config."""
    has_bias = config.flag("attention_bias", default=False)
    return replace(qwen2.describe(config), family="qwen3", has_qkv_bias=has_bias, has_qk_norm=True)

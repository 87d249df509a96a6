"""Qwen2 and Qwen2.5: Llama with biases on q, k and v."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama

CLASSES = ("Qwen2ForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = llama.RUNS_IN
# ChatML with this family's own tokens, by which FastChat stops.
FASTCHAT_PROMPT = "qwen-7b-chat"


def describe(config: Config) -> Decoder:
    """Read a Qwen2 config."""
    if config.flag("use_sliding_window", default=False):
        raise Failure(
            f"{config.where}: use_sliding_window is on, and a window in some layers only is not supported",
            "the published models have it off",
        )
    return replace(llama.describe(config), family="qwen2", has_qkv_bias=True)

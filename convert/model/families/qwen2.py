"""Qwen2 and Qwen2.5: Llama with biases on q, k and v."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import Gguf, Split, Tokenizer
from convert.model.feature import Feature
from convert.model.splitting import ONE_DIGIT

CLASSES = ("Qwen2ForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = llama.RUNS_IN
# ChatML with this family's own tokens, by which FastChat stops.
FASTCHAT_PROMPT = "qwen-7b-chat"
GGUF = Gguf(
    "qwen2",
    renders=frozenset({Feature.QKV_BIAS, Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    large_layers=80,
)
TOKENIZER = Tokenizer(
    classes=("Qwen2Tokenizer",),
    split=Split(ONE_DIGIT, normalizer="NFC"),
)
EXAMPLE = {**llama.SIZES, "architectures": list(CLASSES), "tie_word_embeddings": True}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if config.flag("use_sliding_window", default=False):
        raise Failure(
            f"{config.where}: use_sliding_window is on, and a window in some layers only is not supported",
            "the published models have it off",
        )
    return replace(llama.describe(config), family="qwen2").with_mixers(has_qkv_bias=True)

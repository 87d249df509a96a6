"""Qwen2 and Qwen2.5: Llama with biases on q, k and v."""

from collections.abc import Sequence
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import Gguf, Split, Tokenizer
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, read_kinds
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
WINDOWS = {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 2}
VARIANTS = {"windows": WINDOWS}


def describe(config: Config) -> Decoder:
    """Read a config."""
    return with_windows(read(config), config)


def read(config: Config) -> Decoder:
    """Read all of a config but its windows."""
    return replace(llama.describe(config), family="qwen2").with_mixers(has_qkv_bias=True)


def with_windows(decoder: Decoder, config: Config, kinds: Sequence[str] | None = None) -> Decoder:
    """Read which layers have a window: by default those from a number on."""
    if not config.flag("use_sliding_window", default=False):
        return decoder
    if kinds is None:
        first = config.size("max_window_layers", default=28, least=0)
        kinds = [SLIDING if number >= first else FULL for number in range(decoder.layer_count)]
    window = config.size("sliding_window", default=4096)
    return replace(
        decoder,
        layers=tuple(
            replace(layer, mixer=replace(layer.attention, window=window))
            if layer.attention and kind == SLIDING
            else layer
            for layer, kind in zip(decoder.layers, read_kinds(config, kinds), strict=True)
        ),
    )

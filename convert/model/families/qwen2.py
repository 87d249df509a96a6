"""Qwen2 and Qwen2.5: Llama with biases on q, k and v."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import CTranslate2, Gguf, Mlx, Split, Tokenizer
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, read_kinds
from convert.model.rotary import written as written_rope
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
MLX = Mlx(renders=frozenset({Feature.QKV_BIAS, Feature.ROPE_YARN}))
CTRANSLATE2 = CTranslate2(
    renders=frozenset({Feature.QKV_BIAS, Feature.ROPE_LINEAR}), begins_with_padding=True
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


def written(decoder: Decoder, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Say in this family's words what the source's config says in those of one like it."""
    layer, rope = decoder.layer, decoder.rope
    size = layer.dense.size if layer.dense else layer.experts.dense_size if layer.experts else 0
    if not size or rope is None:
        raise ValueError("this decoder is of another family")
    parameters = written_rope(rope)
    return {
        "architectures": list(CLASSES),
        "attention_dropout": 0.0,
        "bos_token_id": bos_id,
        "eos_token_id": eos_id,
        "hidden_act": "silu",
        "hidden_size": decoder.hidden_size,
        "intermediate_size": size,
        "max_position_embeddings": decoder.context_length,
        "model_type": decoder.family,
        "num_attention_heads": decoder.attention.head_count,
        "num_hidden_layers": decoder.layer_count,
        "num_key_value_heads": decoder.attention.kv_head_count,
        "rms_norm_eps": decoder.final_norm.eps,
        # Current Transformers reads the last, everything before it the others.
        "rope_theta": rope.theta,
        **({"rope_scaling": parameters} if rope.scaling else {}),
        "rope_parameters": parameters,
        "tie_word_embeddings": decoder.is_tied,
        "use_cache": True,
        "vocab_size": decoder.vocab_size,
        **_written_windows([each.window for each in decoder.attentions]),
    }


def _written_windows(windows: Sequence[int | None]) -> dict[str, Any]:
    if not any(windows):
        return {"sliding_window": None, "use_sliding_window": False}
    return {
        "layer_types": [SLIDING if each else FULL for each in windows],
        "max_window_layers": next(number for number, each in enumerate(windows) if each),
        "sliding_window": max(each or 0 for each in windows),
        "use_sliding_window": True,
    }

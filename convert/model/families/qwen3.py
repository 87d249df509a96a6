"""Qwen3: Qwen2 without the biases, with norms on each head's q and k."""

from dataclasses import replace
from typing import Any

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama, qwen2
from convert.model.family import CTranslate2, Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Qwen3ForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = llama.RUNS_IN
FASTCHAT_PROMPT = qwen2.FASTCHAT_PROMPT
GGUF = Gguf(
    "qwen3",
    renders=frozenset({Feature.QK_NORM, Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    scales=llama.SCALES,
)
MLX = Mlx(renders=frozenset({Feature.QK_NORM, Feature.ROPE_YARN}))
CTRANSLATE2 = CTranslate2(
    renders=frozenset({Feature.QK_NORM, Feature.QKV_BIAS, Feature.ROPE_LINEAR}),
    says_head_size=True,
    says_rotary_size=True,
    begins_with_padding=True,
)
TOKENIZER = replace(qwen2.TOKENIZER, classes=())
EXAMPLE = {**llama.SIZES, "architectures": list(CLASSES), "head_dim": 64}
VARIANTS = {"windows": qwen2.WINDOWS}


def describe(config: Config) -> Decoder:
    """Read a config."""
    return qwen2.with_windows(read(config), config)


def read(config: Config) -> Decoder:
    """Read all of a config but its windows."""
    decoder = replace(qwen2.read(config), family="qwen3")
    return decoder.with_mixers(
        has_qkv_bias=config.flag("attention_bias", default=False), qk_norm=decoder.final_norm
    )


def written(decoder: Decoder, bos_id: int | None, eos_id: int | None) -> dict[str, Any]:
    """Say in this family's words what the source's config says in those of one like it."""
    return {
        **qwen2.written(decoder, bos_id, eos_id),
        "architectures": list(CLASSES),
        "attention_bias": decoder.attention.has_qkv_bias,
        "head_dim": decoder.attention.head_size,
    }

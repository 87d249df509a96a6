"""Gemma 1: wide heads, a tied head, embeddings scaled, norms stored less one."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama
from convert.model.family import CTranslate2, Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("GemmaForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"transformers-packed", "vllm", "sglang", "tgi", "transformers.js"})


def limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph has no place for."""
    if not decoder.is_tied:
        yield "an output head apart from the embeddings"


GGUF = Gguf(
    "gemma",
    renders=frozenset({
        Feature.OFFSET_NORM, Feature.EMBEDDING_SCALE, Feature.GELU_TANH,
        Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    always=frozenset({"key_length"}),
    limits=limits,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({Feature.EMBEDDING_SCALE, Feature.OFFSET_NORM}),
    lost={Feature.GELU_TANH: "mlx-lm computes GELU exactly"},
)
CTRANSLATE2 = CTranslate2(
    renders=frozenset({Feature.EMBEDDING_SCALE, Feature.OFFSET_NORM, Feature.GELU_TANH}),
    says_head_size=True,
)
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "tie_word_embeddings": True,
}

# The first configs said "gelu" and meant the tanh form; hidden_activation came to say so.
TANH_FORMS = ("gelu", "gelu_pytorch_tanh", "gelu_new")


def check_activation(config: Config) -> None:
    """Refuse all but GELU by its tanh form."""
    activation = config.text("hidden_activation", config.text("hidden_act", "gelu_pytorch_tanh"))
    if activation not in TANH_FORMS:
        raise Failure(
            f"{config.where}: activation {activation!r} is not supported",
            f"supported: {', '.join(TANH_FORMS)}",
        )


def describe(config: Config) -> Decoder:
    """Read a config."""
    check_activation(config)
    values = {**config.values, "hidden_act": "silu", "head_dim": config.size("head_dim", default=256)}
    decoder = llama.describe(Config(values, config.where))
    return replace(
        decoder.with_mlps(activation="gelu_tanh").with_norm(replace(decoder.final_norm, is_offset=True)),
        family="gemma",
        is_tied=config.flag("tie_word_embeddings", default=True),
        embedding_scale=decoder.hidden_size**0.5,
    )

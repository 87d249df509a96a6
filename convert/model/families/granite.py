"""Granite: Llama with multipliers of embeddings, attention, residuals and logits."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama
from convert.model.family import Mlx
from convert.model.feature import Feature

CLASSES = ("GraniteForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"vllm", "sglang", "tgi", "transformers.js"})
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "tie_word_embeddings": True,
    "embedding_multiplier": 12.0,
    "attention_multiplier": 0.1875,
    "residual_multiplier": 0.22,
    "logits_scaling": 8.0,
    "attention_bias": False,
    "mlp_bias": False,
}
VARIANTS = {"biased": {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": False}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    return scaled(config, replace(llama.describe(config), family="granite"))


def scaled(config: Config, decoder: Decoder) -> Decoder:
    """Read the multipliers."""
    scale = config.real("attention_multiplier", default=1.0)
    plain = decoder.attention.head_size**-0.5
    embedding, logits = (
        config.real("embedding_multiplier", default=1.0),
        config.real("logits_scaling", default=1.0),
    )
    return replace(
        decoder.with_layers(residual_scale=config.real("residual_multiplier", default=1.0)).with_mixers(
            scale=None if scale == plain else scale
        ),
        embedding_scale=None if embedding == 1 else embedding,
        logit_scale=None if logits == 1 else 1 / logits,
    )


def limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph has no place for."""
    if decoder.rope and decoder.rope.dimensions != decoder.attention.head_size:
        yield "rotary positions in a part of each head"


def keys(decoder: Decoder) -> dict[str, object]:
    """Write the multipliers as this graph reads them: what it divides logits by, and all of them."""
    return {
        "logit_scale": 1 / (decoder.logit_scale or 1.0),
        "embedding_scale": decoder.embedding_scale or 1.0,
    }


GGUF = replace(
    llama.GGUF,
    architecture="granite",
    renders=llama.GGUF.renders
    | {
        Feature.EMBEDDING_SCALE, Feature.ATTENTION_SCALE, Feature.RESIDUAL_SCALE, Feature.LOGIT_SCALE,
    },
    limits=limits,
    keys=keys,
    lost={},
    large_layers=0,
    scales=frozenset(),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.ATTENTION_SCALE, Feature.EMBEDDING_SCALE, Feature.LOGIT_SCALE, Feature.RESIDUAL_SCALE,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
    wide=frozenset({Role.ATTN_OUT, Role.MLP_DOWN, Role.HEAD}),
)  # fmt: skip

"""Gemma 2: Gemma with norms after attention and MLP, softcaps, and a window in every other layer."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import gemma, llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds, window_keys, with_windows

CLASSES = ("Gemma2ForCausalLM",)
RUNS_IN = gemma.RUNS_IN
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_POST_NORM: "layers.{layer}.post_attention_layernorm",
        Role.MLP_NORM: "layers.{layer}.pre_feedforward_layernorm",
        Role.MLP_POST_NORM: "layers.{layer}.post_feedforward_layernorm",
    },
)
# The graph of the model of this many layers scales attention by its hidden size.
LAYERS_27B = 46
EXAMPLE = {
    **gemma.EXAMPLE,
    "architectures": list(CLASSES),
    "query_pre_attn_scalar": 64,
    "sliding_window": 24,
    "sliding_window_size": 24,
    "attn_logit_softcapping": 50.0,
    "final_logit_softcapping": 30.0,
}
VARIANTS = {"listed": {"layer_types": [FULL, SLIDING, SLIDING, FULL], "attn_logit_softcapping": 2.0}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(gemma.describe(config), family="gemma2")
    kinds = read_kinds(config, every(2, decoder.layer_count))
    return replace(
        with_windows(sandwiched(decoder), kinds, config.size("sliding_window", default=4096)).with_mixers(
            scale=read_scale(config, decoder), softcap=read_cap(config, "attn_logit_softcapping", 50.0)
        ),
        logit_softcap=read_cap(config, "final_logit_softcapping", 30.0),
    )


def read_cap(config: Config, key: str, default: float | None = None) -> float | None:
    """Read a softcap; null is none."""
    return config.real(key) if config.has(key) else None if key in config.values else default


def sandwiched(decoder: Decoder) -> Decoder:
    """Put norms after attention and MLP too."""
    return decoder.with_layers(attn_post_norm=decoder.final_norm, mlp_post_norm=decoder.final_norm)


def read_scale(config: Config, decoder: Decoder) -> float | None:
    """Read by what attention is scaled, where that is not the size of a head."""
    size: float = config.real("query_pre_attn_scalar", default=256.0)
    return None if size == decoder.attention.head_size else size**-0.5


def scale_limits(decoder: Decoder, scaled_layers: int) -> Iterator[str]:
    """Name attention scales other than the graph's own."""
    attention = decoder.attention
    size: float = attention.head_size
    if decoder.layer_count == scaled_layers:
        size = decoder.hidden_size // attention.head_count
    if abs((attention.scale or attention.head_size**-0.5) * size**0.5 - 1) > 1e-6:
        yield f"attention scales other than 1 / sqrt({size})"


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from gemma.limits(decoder)
    yield from scale_limits(decoder, LAYERS_27B)
    if not any(attention.window for attention in decoder.attentions):
        yield "a model of this family without windows"
    if decoder.attention.softcap is None or decoder.logit_softcap is None:
        yield "a model of this family without softcaps"


GGUF = Gguf(
    "gemma2",
    renders=gemma.GGUF.renders
    | {
        Feature.POST_NORM, Feature.SOFTCAP, Feature.LOGIT_SOFTCAP, Feature.ATTENTION_SCALE,
        Feature.WINDOW, Feature.MIXED_WINDOWS,
    },
    always=gemma.GGUF.always,
    limits=_limits,
    keys=lambda decoder: {"attention.scale": None, **window_keys(decoder, 2)},
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.EMBEDDING_SCALE, Feature.GELU_TANH, Feature.LOGIT_SOFTCAP, Feature.OFFSET_NORM,
        Feature.POST_NORM, Feature.SOFTCAP, Feature.ATTENTION_SCALE,
    }),
    lost=dict.fromkeys(
        (Feature.WINDOW, Feature.MIXED_WINDOWS), "mlx-lm's file of the family knows no windows"
    ),
)  # fmt: skip

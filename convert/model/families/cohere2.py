"""Cohere's Command R7B and A: windows in three of four layers, and no positions in the fourth."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import cohere, gemma, llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds, window_keys, window_period, with_windows

CLASSES = ("Cohere2ForCausalLM",)
NAMING = cohere.NAMING
UNQUANTIZED = {"awq": "norms of a class that GPTQModel does not know"}
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
PERIOD = 4
EXAMPLE = {
    **{key: value for key, value in cohere.EXAMPLE.items() if key != "use_qk_norm"},
    "architectures": list(CLASSES),
    "num_hidden_layers": 5,
    "sliding_window": 24,
    "sliding_window_pattern": 4,
    "rotary_pct": 1.0,
}
VARIANTS = {"listed": {"layer_types": [SLIDING, FULL, SLIDING, FULL, SLIDING]}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(cohere.describe(config), family="cohere2")
    period = config.size("sliding_window_pattern", default=PERIOD)
    kinds = read_kinds(config, every(period, decoder.layer_count))
    window = config.size("sliding_window", default=4096)
    return with_windows(decoder, kinds, window, has_rope_beyond=False)


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from gemma.limits(decoder)
    yield from llama.square_limits(decoder)
    if not any(attention.window for attention in decoder.attentions):
        yield "a model of this family without windows"


GGUF = Gguf(
    "cohere2",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNBIASED_LAYER_NORM, Feature.PARALLEL_MLP, Feature.INTERLEAVED_ROTARY,
        Feature.LOGIT_SCALE, Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY,
        Feature.NO_POSITIONS,
    }),
    always=frozenset({"key_length"}),
    limits=_limits,
    keys=lambda decoder: {"rope.scaling.type": "none", **window_keys(decoder, PERIOD)},
    scales=llama.SCALES,
)  # fmt: skip


def _mlx_limits(decoder: Decoder) -> Iterator[str]:
    """Name what mlx-lm's file of the family has built in."""
    if decoder.attention.head_count * decoder.attention.head_size != decoder.hidden_size:
        yield "heads that are not as wide as hidden states together"
    if window_period(decoder) is None:
        yield "windows that follow no period"


MLX = Mlx(
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNBIASED_LAYER_NORM, Feature.PARALLEL_MLP, Feature.INTERLEAVED_ROTARY,
        Feature.LOGIT_SCALE, Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY,
        Feature.NO_POSITIONS,
    }),
    keys=lambda decoder: {"sliding_window_pattern": window_period(decoder)},
    defaults=lambda decoder: {"head_dim": decoder.attention.head_size},
    limits=_mlx_limits,
)  # fmt: skip

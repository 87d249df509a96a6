"""EXAONE 4: norms after attention and MLP alone, and where there are windows, no positions beyond them."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama, olmo2
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds, window_period, windowed, with_windows

CLASSES = ("Exaone4ForCausalLM",)
NAMING = olmo2.NAMING
RUNS_IN = frozenset({"vllm", "sglang"})
PERIOD = 4
# The graph knows windows in the model of this many layers alone, and there it always has them.
WINDOWED_LAYERS = 64
LETTERS = {"L": SLIDING, "G": FULL}
EXAMPLE = {
    **olmo2.EXAMPLE,
    "architectures": list(CLASSES),
    "head_dim": 32,
    "num_key_value_heads": 2,
    "rope_theta": 1000000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 16.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "sliding_window": None,
    "sliding_window_pattern": None,
    "layer_types": [FULL] * 4,
    "tie_word_embeddings": True,
}
_WINDOWED = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 8, "tie_word_embeddings": False}
VARIANTS = {
    "windowed": {
        **_WINDOWED,
        "num_hidden_layers": WINDOWED_LAYERS,
        "sliding_window": 24,
        "sliding_window_pattern": "LLLG",
        "layer_types": [SLIDING, SLIDING, SLIDING, FULL] * 16,
    },
    "small": {
        "num_hidden_layers": 5,
        "sliding_window": 24,
        "sliding_window_pattern": 4,
        "layer_types": None,
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = replace(olmo2.describe(config), family="exaone4").with_mixers(qk_norm_span="head")
    is_windowed = config.has("sliding_window") or "sliding_window" not in config.values
    count = decoder.layer_count
    kinds = read_kinds(config, _pattern(config, count) if is_windowed else (FULL,) * count)
    if not is_windowed:
        return decoder
    return with_windows(decoder, kinds, config.size("sliding_window", default=4096), has_rope_beyond=False)


def _pattern(config: Config, count: int) -> tuple[str, ...]:
    """Read a pattern: the length of a period, or a letter for each layer of it."""
    pattern = config.values.get("sliding_window_pattern")
    if not isinstance(pattern, str):
        return every(config.size("sliding_window_pattern", default=PERIOD), count)
    if not pattern or set(pattern) - LETTERS.keys():
        raise Failure(
            f"{config.where}: sliding_window_pattern {pattern[:40]!r} is not supported",
            f"supported: a number, or the letters {' and '.join(LETTERS)}",
        )
    return tuple(LETTERS[pattern[number % len(pattern)]] for number in range(count))


def _limits(decoder: Decoder) -> Iterator[str]:
    has_windows = any(attention.window for attention in decoder.attentions)
    if decoder.layer_count != WINDOWED_LAYERS and decoder.features & {Feature.WINDOW, Feature.NO_POSITIONS}:
        yield f"windows, and layers without positions, in a model of other than {WINDOWED_LAYERS} layers"
    if decoder.layer_count == WINDOWED_LAYERS and not has_windows:
        yield f"a model of {WINDOWED_LAYERS} layers without windows"
    yield from llama.square_limits(decoder)


def _keys(decoder: Decoder) -> dict[str, object]:
    windowed = [attention.window is not None for attention in decoder.attentions]
    return {"attention.sliding_window_pattern": windowed if any(windowed) else None}


GGUF = Gguf(
    "exaone4",
    renders=frozenset({
        Feature.NO_INPUT_NORM, Feature.POST_NORM, Feature.QK_NORM,
        Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3, Feature.ROPE_YARN,
        Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY, Feature.NO_POSITIONS,
    }),
    limits=_limits,
    keys=_keys,
)  # fmt: skip


def _mlx_keys(decoder: Decoder) -> dict[str, object]:
    """Write which layers see a window alone as mlx-lm's file reads it: a letter for each of a period."""
    found = windowed(decoder)
    letters = "".join("L" if is_windowed else "G" for is_windowed in found)
    return {
        "sliding_window_pattern": letters[: window_period(decoder)] if any(found) else None,
        # Transformers counts by the pattern where it finds no list.
        "layer_types": [SLIDING if is_windowed else FULL for is_windowed in found],
    }


MLX = Mlx(
    renders=frozenset({
        Feature.NO_INPUT_NORM, Feature.POST_NORM, Feature.QK_NORM, Feature.ROPE_LLAMA3, Feature.WINDOW,
        Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY, Feature.NO_POSITIONS,
    }),
    keys=_mlx_keys,
    limits=lambda decoder: ["windows in all layers"] if all(windowed(decoder)) else [],
)  # fmt: skip

"""OLMo 3: OLMo 2 with windows in three of four layers, whose positions are not scaled."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Rope
from convert.model.families import olmo2
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds, with_windows
from convert.model.rotary import read_rope

CLASSES = ("Olmo3ForCausalLM",)
NAMING = olmo2.NAMING
RUNS_IN = olmo2.RUNS_IN
PERIOD = 4
EXAMPLE = {
    **olmo2.EXAMPLE,
    "architectures": list(CLASSES),
    "num_hidden_layers": 5,
    "sliding_window": 24,
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 8.0,
        "original_max_position_embeddings": 32,
        "attention_factor": 1.2079441541679836,
        "beta_fast": 32,
        "beta_slow": 1,
    },
}
VARIANTS = {
    "listed": {
        "layer_types": [SLIDING, FULL, FULL, SLIDING, FULL],
        "rope_scaling": None,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in (FULL, SLIDING)
        },
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    # The plain reading of positions knows one kind alone.
    plain = {key: value for key, value in config.values.items() if not key.startswith("rope_")}
    decoder = replace(olmo2.describe(Config(plain, config.where)), family="olmo3")
    size = decoder.attention.head_size
    ropes = {kind: _read_rope(config, size, kind) for kind in (SLIDING, FULL)}
    kinds = read_kinds(config, every(PERIOD, decoder.layer_count))
    decoder = with_windows(decoder, kinds, config.size("sliding_window", default=4096))
    layers = tuple(
        replace(layer, mixer=replace(layer.attention, rope=ropes[kind]))
        for layer, kind in zip(decoder.layers, kinds, strict=True)
        if layer.attention
    )
    return replace(decoder, layers=layers)


def _read_rope(config: Config, size: int, kind: str) -> Rope:
    """Read how positions turn in layers of a kind; older configs scale those without a window alone."""
    rope = read_rope(config, size, default_theta=500000.0, kind=kind)
    is_apart = isinstance(config.values.get("rope_parameters"), dict)
    return rope if is_apart or kind == FULL else replace(rope, scaling=None)


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from olmo2.limits(decoder)
    ropes = {attention.rope for attention in decoder.attentions if attention.rope}
    if len({rope.theta for rope in ropes}) > 1:
        yield "rotary bases that differ between layers"
    if any(each.window and each.rope and each.rope.scaling for each in decoder.attentions):
        yield "rotary scaling in windows"


def _keys(decoder: Decoder) -> dict[str, object]:
    return {
        "attention.sliding_window_pattern": [each.window is not None for each in decoder.attentions],
        "rope.freq_base_swa": decoder.rope.theta if decoder.rope else None,
    }


GGUF = replace(
    olmo2.GGUF,
    renders=olmo2.GGUF.renders | {Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY},
    limits=_limits,
    keys=_keys,
)
MLX = replace(
    olmo2.MLX,
    renders=olmo2.MLX.renders
    | {Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY, Feature.ROPE_YARN},
)

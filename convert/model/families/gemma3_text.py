"""Gemma 3: Gemma 2 without softcaps, with norms of queries and keys, and other positions in windows."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Rope
from convert.model.families import gemma, gemma2
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, SLIDING, every, read_kinds, window_keys, window_period, with_windows
from convert.model.rotary import read_rope
from convert.model.towers import siglip

CLASSES = ("Gemma3ForCausalLM",)
RUNS_IN = gemma.RUNS_IN
NAMING = gemma2.NAMING
# Its configs leave out what Transformers' class takes for granted.
DEFAULTS = {
    "vocab_size": 262208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
}
PERIOD = 6
# The graph of the model of this many layers scales attention by its hidden size.
LAYERS_27B = 62
EXAMPLE = {
    **gemma.EXAMPLE,
    "architectures": list(CLASSES),
    "num_hidden_layers": 7,
    "query_pre_attn_scalar": 64,
    "sliding_window": 24,
    "sliding_window_pattern": 6,
    "rope_theta": 1000000.0,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": {"rope_type": "linear", "factor": 8.0},
}
VARIANTS = {
    "listed": {
        "layer_types": [SLIDING, SLIDING, FULL, FULL, SLIDING, FULL, SLIDING],
        "final_logit_softcapping": 4.0,
        "rope_scaling": None,
        "rope_theta": None,
        "rope_local_base_freq": None,
        "rope_parameters": {
            FULL: {"rope_type": "linear", "factor": 4.0, "rope_theta": 500000.0},
            SLIDING: {"rope_type": "default", "rope_theta": 5000.0},
        },
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if config.values.get("use_bidirectional_attention"):
        raise Failure(
            f"{config.where}: use_bidirectional_attention is on: the model embeds texts and writes none",
            "modelwright converts text decoders: name a model that generates text",
        )
    values = DEFAULTS | {key: value for key, value in config.values.items() if value is not None}
    config = Config(values, config.where)
    ropes = {kind: _read_rope(config, kind) for kind in (SLIDING, FULL)}
    # The plain reading of positions knows one kind alone.
    plain = {key: value for key, value in values.items() if not key.startswith("rope_")}
    decoder = replace(gemma.describe(Config(plain, config.where)), family="gemma3_text")
    count = decoder.layer_count
    period = config.size("sliding_window_pattern", "_sliding_window_pattern", default=PERIOD)
    kinds = read_kinds(config, every(period, count))
    window = config.size("sliding_window", default=4096)
    decoder = with_windows(gemma2.sandwiched(decoder), kinds, window).with_mixers(
        qk_norm=decoder.final_norm,
        scale=gemma2.read_scale(config, decoder),
        softcap=gemma2.read_cap(config, "attn_logit_softcapping"),
    )
    layers = tuple(
        replace(layer, mixer=replace(layer.attention, rope=ropes[kind]))
        for layer, kind in zip(decoder.layers, kinds, strict=True)
        if layer.attention
    )
    cap = gemma2.read_cap(config, "final_logit_softcapping")
    return replace(decoder, layers=layers, logit_softcap=cap)


def _read_rope(config: Config, kind: str) -> Rope:
    """Read how positions turn in layers of a kind; older configs name only the base of those in windows."""
    size, values = config.size("head_dim"), config.values
    if kind == FULL:
        return read_rope(config, size, default_theta=1e6, kind=FULL)
    apart = values.get("rope_parameters")
    local = apart.get(SLIDING) if isinstance(apart, dict) else None
    theta = config.real("rope_local_base_freq", default=10000.0)
    return read_rope(Config({"rope_parameters": local}, config.where), size, default_theta=theta)


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from gemma2.scale_limits(decoder, LAYERS_27B)
    windowed = [each for each in decoder.attentions if each.window]
    if not windowed and decoder.attention.rope != decoder.attentions[-1].rope:
        yield "rotary positions that differ between layers without windows"
    if any(each.rope and each.rope.scaling for each in windowed):
        yield "rotary scaling in windows"


GGUF = Gguf(
    "gemma3",
    renders=gemma.GGUF.renders
    | {
        Feature.POST_NORM, Feature.QK_NORM, Feature.LOGIT_SOFTCAP, Feature.ATTENTION_SCALE,
        Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY,
    },
    always=gemma.GGUF.always,
    projector=siglip.PROJECTOR,
    limits=_limits,
    keys=lambda decoder: {"attention.scale": None, **window_keys(decoder, PERIOD)},
)  # fmt: skip


def _mlx_keys(decoder: Decoder) -> dict[str, object]:
    """Write as older configs do how positions turn, and which layers see a window alone."""
    local, everywhere = (
        next((each.rope for each in decoder.attentions if (each.window is not None) is is_local), None)
        for is_local in (True, False)
    )
    scaling = everywhere.scaling if everywhere else None
    return {
        **({"rope_local_base_freq": local.theta} if local else {}),
        **({"rope_theta": everywhere.theta} if everywhere else {}),
        "rope_scaling": {"rope_type": scaling.kind, "factor": scaling.factor} if scaling else None,
        "sliding_window_pattern": window_period(decoder),
    }


MLX = Mlx(
    renders=gemma2.MLX.renders - {Feature.SOFTCAP, Feature.LOGIT_SOFTCAP}
    | {
        Feature.QK_NORM, Feature.ROPE_LINEAR, Feature.WINDOW, Feature.MIXED_WINDOWS, Feature.MIXED_ROTARY,
    },
    keys=_mlx_keys,
    limits=lambda decoder: [] if window_period(decoder) else ["windows that follow no period"],
)  # fmt: skip

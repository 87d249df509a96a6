"""Qwen3.5 and 3.6: three layers of the gated delta rule for each one of gated attention."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from convert.errors import Failure
from convert.model.arrange import NegativeExp, TileColumns
from convert.model.config import Config
from convert.model.decoder import Attention, Decoder, Delta, Dense, Layer, Norm, Part, Role
from convert.model.families import llama, qwen2
from convert.model.family import Gguf, Naming
from convert.model.feature import Feature
from convert.model.pattern import FULL, every, read_kinds
from convert.model.rotary import read_deviations, read_rope, read_sections
from convert.model.towers import patch_merger

CLASSES = ("Qwen3_5ForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang"})
FASTCHAT_PROMPT = qwen2.FASTCHAT_PROMPT
LINEAR = "linear_attention"
INTERVAL = 4  # of layers with attention, where a config says nothing
SECTIONS = (11, 11, 10)  # of rotary pairs, where a config says nothing

DELTA_NAMES: dict[Role | tuple[Role, Part], str] = {
    Role.DELTA_CONV: "layers.{layer}.linear_attn.conv1d",
    (Role.DELTA_TIME, "weight"): "layers.{layer}.linear_attn.dt_bias",
    (Role.DELTA_DECAY, "weight"): "layers.{layer}.linear_attn.A_log",
    Role.DELTA_NORM: "layers.{layer}.linear_attn.norm",
    Role.DELTA_OUT: "layers.{layer}.linear_attn.out_proj",
}
NEXT_NAMES: dict[Role | tuple[Role, Part], str] = {
    Role.NEXT_EMBED_NORM: "pre_fc_norm_embedding",
    Role.NEXT_HIDDEN_NORM: "pre_fc_norm_hidden",
    Role.NEXT_PROJECTION: "fc",
    Role.NEXT_NORM: "norm",
}


def with_next_naming(naming: Naming) -> Naming:
    """Name the layers for further tokens, which are counted by themselves."""
    return replace(naming, next=replace(naming, prefix="mtp.", names={**naming.names, **NEXT_NAMES}))


TRUNK = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        **DELTA_NAMES,
        Role.DELTA_Q: "layers.{layer}.linear_attn.in_proj_qkv",
        Role.DELTA_K: "layers.{layer}.linear_attn.in_proj_qkv",
        Role.DELTA_V: "layers.{layer}.linear_attn.in_proj_qkv",
        Role.DELTA_GATE: "layers.{layer}.linear_attn.in_proj_z",
        Role.DELTA_BETA: "layers.{layer}.linear_attn.in_proj_b",
        Role.DELTA_ALPHA: "layers.{layer}.linear_attn.in_proj_a",
    },
)


NAMING = with_next_naming(TRUNK)


def delta_of(decoder: Decoder, layer: int) -> Delta:
    """Give a layer's delta rule."""
    mixer = decoder.layers[layer].mixer
    if not isinstance(mixer, Delta):
        raise TypeError(f"layer {layer} has no delta rule")
    return mixer


def _heads(mixer: Delta, size: int, first: int = 0) -> Iterator[tuple[int, int]]:
    """List runs of rows such that the values' heads go around the keys', and not each key's together."""
    shared = mixer.value_head_count // mixer.key_head_count
    if shared == 1:
        yield first, mixer.value_head_count * size
        return
    for number in range(shared):
        for key in range(mixer.key_head_count):
            yield first + (key * shared + number) * size, size


def _values(decoder: Decoder, layer: int) -> Iterator[tuple[int, int]]:
    mixer = delta_of(decoder, layer)
    return _heads(mixer, mixer.value_size)


def _scalars(decoder: Decoder, layer: int) -> Iterator[tuple[int, int]]:
    return _heads(delta_of(decoder, layer), 1)


def _channels(decoder: Decoder, layer: int) -> Iterator[tuple[int, int]]:
    mixer = delta_of(decoder, layer)
    yield 0, 2 * mixer.keys_size
    yield from _heads(mixer, mixer.value_size, 2 * mixer.keys_size)


def _columns(decoder: Decoder, layer: int) -> tuple[TileColumns, int]:
    mixer = delta_of(decoder, layer)
    return TileColumns(mixer.key_head_count, mixer.value_size), 1


def limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph takes for granted."""
    deltas = [layer.mixer for layer in decoder.kinds if isinstance(layer.mixer, Delta)]
    if any(each.key_size != each.value_size for each in deltas):
        yield "linear attention whose keys and values differ in size"
    if not deltas or not decoder.attentions:
        yield "layers that are all alike"


def keys(decoder: Decoder) -> dict[str, Any]:
    """Say which layers have no attention."""
    recurrent = [isinstance(layer.mixer, Delta) for layer in decoder.layers]
    return {"attention.recurrent_layers": recurrent, "full_attention_interval": recurrent.index(False) + 1}


GGUF = Gguf(
    "qwen35",
    renders=frozenset({
        Feature.QK_NORM, Feature.PARTIAL_ROTARY, Feature.OFFSET_NORM, Feature.GATED_ATTENTION,
        Feature.DELTA_RULE, Feature.MIXED_MIXERS, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    names={Role.MLP_NORM: "post_attention_norm"},
    projector=patch_merger.PROJECTOR,
    order={
        Role.DELTA_V: _values,
        Role.DELTA_GATE: _values,
        Role.DELTA_BETA: _scalars,
        Role.DELTA_ALPHA: _scalars,
        Role.DELTA_TIME: _scalars,
        Role.DELTA_DECAY: _scalars,
        Role.DELTA_CONV: _channels,
    },
    arranged={
        Role.DELTA_DECAY: lambda _decoder, _layer: (NegativeExp(), 1),
        Role.DELTA_OUT: _columns,
    },
    limits=limits,
    keys=keys,
    always=frozenset({"key_length"}),
    has_next_layers=True,
    scales=llama.SCALES
    | {Role.DELTA_Q, Role.DELTA_K, Role.DELTA_V, Role.DELTA_GATE, Role.DELTA_OUT},
)  # fmt: skip

DELTA_SIZES = {
    "head_dim": 64,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 64,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 64,
    "full_attention_interval": 4,
}
EXAMPLE = {
    **llama.SIZES,
    **DELTA_SIZES,
    "architectures": list(CLASSES),
    "layer_types": list(every(INTERVAL, 4, rest=LINEAR)),
    "attn_output_gate": True,
    "rope_parameters": {
        "mrope_interleaved": True,
        "mrope_section": [3, 3, 2],
        "partial_rotary_factor": 0.25,
        "rope_theta": 10000000,
        "rope_type": "default",
    },
    "tie_word_embeddings": True,
}
VARIANTS = {
    "shared_heads": {"linear_num_value_heads": 6, "tie_word_embeddings": False},
    "alike_heads": {
        "linear_num_value_heads": 2,
        "num_hidden_layers": 3,
        "full_attention_interval": 2,
        "layer_types": None,
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    mlp = Dense(config.size("intermediate_size"))
    decoder = mixed(config, "qwen3_5_text").with_layers(mlp=mlp)
    return with_next_layers(with_sections(decoder, config), config)


def with_next_layers(decoder: Decoder, config: Config) -> Decoder:
    """Describe the layers by which a model guesses further tokens, each like one with attention."""
    count = config.size("mtp_num_hidden_layers", default=1, least=0)
    if not decoder.attentions:
        return decoder
    norm = decoder.final_norm
    layer = Layer(decoder.attention, decoder.layers[-1].mlp, attn_norm=norm, mlp_norm=norm, next_norm=norm)
    return replace(decoder, next_layers=(layer,) * count)


def with_sections(decoder: Decoder, config: Config) -> Decoder:
    """Read which rotary pairs turn by a picture's time, height and width."""
    rope = decoder.attention.rope
    if rope is None:
        return decoder
    sections = read_sections(config, rope) or SECTIONS
    return decoder.with_mixers(rope=replace(rope, sections=sections))


def mixed(config: Config, family: str) -> Decoder:
    """Read all of a config but its MLPs."""
    if config.text("hidden_act", "silu") not in llama.ACTIVATIONS:
        raise Failure(
            f"{config.where}: hidden_act {config.text('hidden_act')!r} is not supported here",
            "supported: silu",
        )
    if not config.flag("attn_output_gate", default=True):
        raise Failure(f"{config.where}: attn_output_gate is off", "the published models have it on")
    values = {"partial_rotary_factor": 0.25, **config.values}
    heads, head_size = config.size("num_attention_heads"), config.size("head_dim", default=256)
    kv_heads = config.size("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise Failure(
            f"{config.where}: {heads} attention heads cannot share {kv_heads} key-value heads",
            "num_attention_heads must be a multiple of num_key_value_heads",
        )
    norm = Norm(config.real("rms_norm_eps", default=1e-6), is_offset=True)
    has_bias = config.flag("attention_bias", default=False)
    attention = Attention(
        heads,
        kv_heads,
        head_size,
        read_rope(Config(values, config.where), head_size, default_theta=10000.0),
        has_qkv_bias=has_bias,
        has_out_bias=has_bias,
        qk_norm=norm,
        has_gate=True,
    )
    interval = config.size("full_attention_interval", default=INTERVAL)
    default = every(interval, config.size("num_hidden_layers"), rest=LINEAR)
    kinds = read_kinds(config, default, known=(LINEAR, FULL))
    delta = _read_delta(config, norm)
    return Decoder(
        family=family,
        layers=tuple(
            Layer(attention if kind == FULL else delta, None, attn_norm=norm, mlp_norm=norm) for kind in kinds
        ),
        hidden_size=config.size("hidden_size"),
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=32768),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
        deviations=read_deviations(config),
    )


def _read_delta(config: Config, norm: Norm) -> Delta:
    keys = config.size("linear_num_key_heads", default=16)
    values = config.size("linear_num_value_heads", default=32)
    if values % keys:
        raise Failure(
            f"{config.where}: {values} heads of values cannot share {keys} heads of keys",
            "linear_num_value_heads must be a multiple of linear_num_key_heads",
        )
    return Delta(
        keys,
        values,
        config.size("linear_key_head_dim", default=128),
        config.size("linear_value_head_dim", default=128),
        config.size("linear_conv_kernel_dim", default=4),
        replace(norm, is_offset=False),
    )

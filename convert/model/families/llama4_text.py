"""Llama 4: attention in chunks but for every fourth layer, which has no positions; weighed experts."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Attention, Decoder, Dense, Experts, Layer, Norm, Role, Temperature
from convert.model.families import llama
from convert.model.family import Gguf
from convert.model.feature import Feature
from convert.model.pattern import FULL, every, read_kinds

CLASSES = ("Llama4ForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.MLP_GATE: "layers.{layer}.feed_forward.gate_proj",
        Role.MLP_UP: "layers.{layer}.feed_forward.up_proj",
        Role.MLP_DOWN: "layers.{layer}.feed_forward.down_proj",
        Role.ROUTER: "layers.{layer}.feed_forward.router",
        (Role.EXPERT_GATE, "weight"): "layers.{layer}.feed_forward.experts.gate_up_proj",
        (Role.EXPERT_UP, "weight"): "layers.{layer}.feed_forward.experts.gate_up_proj",
        (Role.EXPERT_DOWN, "weight"): "layers.{layer}.feed_forward.experts.down_proj",
        Role.SHARED_GATE: "layers.{layer}.feed_forward.shared_expert.gate_proj",
        Role.SHARED_UP: "layers.{layer}.feed_forward.shared_expert.up_proj",
        Role.SHARED_DOWN: "layers.{layer}.feed_forward.shared_expert.down_proj",
    },
    transposed=frozenset({Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN}),
)
CHUNKED = "chunked_attention"
# What the published models have, and llama.cpp's graph has built in.
CHUNK, PERIOD, SCALE = 8192, 4, 0.1
# With so many experts that graph leaves the norms of queries and keys out.
UNNORMED_COUNT = 128


def _limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph has built in."""
    kinds = every(PERIOD, decoder.layer_count, rest=CHUNKED)
    sparse = [number for number, layer in enumerate(decoder.layers) if isinstance(layer.mlp, Experts)]
    step = _step(decoder)
    if sparse != list(range(step - 1, decoder.layer_count, step)):
        yield "experts in other layers than every one of a step"
    for layer, kind in zip(decoder.layers, kinds, strict=True):
        attention = layer.attention
        if attention is None or (attention.chunk, attention.rope is None) != (
            (CHUNK, False) if kind == CHUNKED else (None, True)
        ):
            yield f"other layers than every fourth without positions, or chunks of other than {CHUNK} tokens"
            return
        if kind == FULL and attention.temperature != Temperature(SCALE, CHUNK):
            yield f"queries that grow by other than {SCALE} every {CHUNK} tokens"
            return
    experts = [layer.mlp for layer in decoder.kinds if isinstance(layer.mlp, Experts)]
    normed = {each.qk_norm is not None for each in decoder.attentions if each.rope}
    if any(normed != {each.count != UNNORMED_COUNT} for each in experts):
        yield f"norms of queries and keys only where there are not {UNNORMED_COUNT} experts"


def _step(decoder: Decoder) -> int:
    """Count the layers up to the first with experts."""
    kinds = [isinstance(layer.mlp, Experts) for layer in decoder.layers]
    return kinds.index(True) + 1 if True in kinds else decoder.layer_count + 1


GGUF = Gguf(
    "llama4",
    renders=frozenset({
        Feature.EXPERTS, Feature.SHARED_EXPERTS, Feature.SIGMOID_ROUTING, Feature.UNNORMALIZED_EXPERTS,
        Feature.WEIGHED_INPUTS, Feature.MIXED_MLPS, Feature.MIXED_MIXERS, Feature.MIXED_ROTARY,
        Feature.CHUNKED_ATTENTION, Feature.QUERY_TEMPERATURE, Feature.NO_POSITIONS, Feature.QK_NORM,
        Feature.LATE_QK_NORM, Feature.WEIGHTLESS_NORM, Feature.INTERLEAVED_ROTARY, Feature.ROPE_LLAMA3,
    }),
    is_interleaved=True,
    limits=_limits,
    keys=lambda decoder: {
        "interleave_moe_layer_step": _step(decoder),
        "leading_dense_block_count": None,
        "expert_shared_feed_forward_length": None,
        "expert_gating_func": None,
    },
    always=frozenset({"key_length"}),
)  # fmt: skip
EXAMPLE = {
    **llama.EXAMPLE,
    "architectures": list(CLASSES),
    "head_dim": 64,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "intermediate_size_mlp": 512,
    "rope_theta": 500000.0,
    "num_local_experts": 8,
    "num_experts_per_tok": 1,
    "interleave_moe_layer_step": 2,
    "no_rope_layers": [],
    "attention_chunk_size": CHUNK,
    "attn_temperature_tuning": True,
    "floor_scale": CHUNK,
    "attn_scale": SCALE,
    "use_qk_norm": True,
}
VARIANTS = {
    # As Transformers 5 saves it, in the manner of the models with 16 experts in each layer.
    "listed": {
        "rope_theta": None,
        "rope_scaling": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0},
        "interleave_moe_layer_step": 1,
        "moe_layers": [0, 1, 2, 3],
        "no_rope_layers": [1, 1, 1, 0],
        "layer_types": list(every(PERIOD, 4, rest=CHUNKED)),
    },
    "short": {"attention_chunk_size": 16, "floor_scale": 16},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    given = {"rms_norm_eps": 1e-5, "rope_theta": 500000.0, "head_dim": 128} | {
        key: value for key, value in config.values.items() if value is not None
    }
    plain = llama.describe(Config(given, config.where))
    count, norm = plain.layer_count, plain.final_norm
    turns = _turning(config, count)
    kinds = read_kinds(config, [CHUNKED if turned else FULL for turned in turns], known=(CHUNKED, FULL))
    size = config.size("intermediate_size")
    experts = Experts(
        config.size("num_local_experts"),
        config.size("num_experts_per_tok", default=1),
        size,
        routing="sigmoid",
        is_normalized=False,
        is_input_weighed=True,
        shared_size=size,
        dense_size=config.size("intermediate_size_mlp"),
    )
    sparse = _sparse(config, count)
    layers = (
        Layer(
            _attention(config, plain.attention, norm, is_turned=turned, is_chunked=kind == CHUNKED),
            experts if number in sparse else Dense(experts.dense_size),
            attn_norm=norm,
            mlp_norm=norm,
        )
        for number, (kind, turned) in enumerate(zip(kinds, turns, strict=True))
    )
    return replace(plain, family="llama4_text", layers=tuple(layers))


def _attention(
    config: Config, plain: Attention, norm: Norm, *, is_turned: bool, is_chunked: bool
) -> Attention:
    if plain.rope is None:
        raise TypeError("every config says how positions turn")
    is_normed = is_turned and config.flag("use_qk_norm", default=True)
    temperature = Temperature(
        config.real("attn_scale", default=SCALE), config.size("floor_scale", default=CHUNK)
    )
    # The first configs counted where they meant yes.
    has_temperature = bool(config.values.get("attn_temperature_tuning", True))
    return replace(
        plain,
        rope=replace(plain.rope, is_interleaved=True) if is_turned else None,
        chunk=config.size("attention_chunk_size", default=CHUNK) if is_chunked else None,
        qk_norm=Norm(norm.eps, has_weight=False) if is_normed else None,
        is_qk_norm_late=is_normed,
        temperature=temperature if has_temperature and not is_turned else None,
    )


def _turning(config: Config, count: int) -> list[bool]:
    """Tell which layers have positions: no_rope_layers lists those that have, in spite of its name."""
    listed = config.values.get("no_rope_layers")
    if not listed:
        period = config.size("no_rope_layer_interval", default=PERIOD)
        return [(number + 1) % period != 0 for number in range(count)]
    if not isinstance(listed, list) or len(listed) < count or not all(each in (0, 1) for each in listed):
        raise Failure(
            f"{config.where}: no_rope_layers is no list of {count} zeros and ones",
            "the file is damaged; fetch it again",
        )
    return [bool(each) for each in listed[:count]]


def _sparse(config: Config, count: int) -> list[int]:
    """List the layers that have experts."""
    listed = config.values.get("moe_layers")
    if listed is None:
        step = config.size("interleave_moe_layer_step", default=1)
        return list(range(step - 1, count, step))
    if not isinstance(listed, list) or not all(each in range(count) for each in listed):
        raise Failure(
            f"{config.where}: moe_layers is no list of numbers below {count}",
            "the file is damaged; fetch it again",
        )
    return listed

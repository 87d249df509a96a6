"""Falcon-H1: attention and a state space in parallel in each layer, with multipliers nearly everywhere."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Dense, Norm, Parallel, Part, Role, StateSpace
from convert.model.families import llama
from convert.model.family import Gguf
from convert.model.feature import Feature

CLASSES = ("FalconH1ForCausalLM",)
RUNS_IN = frozenset({"vllm"})
STATE_NAMES: dict[Role | tuple[Role, Part], str] = {
    Role.STATE_IN: "layers.{layer}.mamba.in_proj",
    Role.STATE_CONV: "layers.{layer}.mamba.conv1d",
    (Role.STATE_TIME, "weight"): "layers.{layer}.mamba.dt_bias",
    (Role.STATE_DECAY, "weight"): "layers.{layer}.mamba.A_log",
    (Role.STATE_SKIP, "weight"): "layers.{layer}.mamba.D",
    Role.STATE_NORM: "layers.{layer}.mamba.norm",
    Role.STATE_OUT: "layers.{layer}.mamba.out_proj",
}
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        **STATE_NAMES,
        Role.MLP_NORM: "layers.{layer}.pre_ff_layernorm",
        Role.MLP_GATE: "layers.{layer}.feed_forward.gate_proj",
        Role.MLP_UP: "layers.{layer}.feed_forward.up_proj",
        Role.MLP_DOWN: "layers.{layer}.feed_forward.down_proj",
        Role.FINAL_NORM: "final_layernorm",
    },
)


def _scaled(decoder: Decoder, number: int) -> dict[Role, list[tuple[int, tuple[float, ...]]]]:
    """Fold in the multipliers, each in its turn, so that products are rounded as the reference's are."""
    mixer, mlp = decoder.layers[number].mixer, decoder.layers[number].mlp
    if not isinstance(mixer, Parallel) or not isinstance(mlp, Dense):
        raise TypeError(f"layer {number} is of another family")
    state = mixer.state
    keys = state.group_count * state.state_size
    parts = (state.inner_size, state.inner_size, keys, keys, state.head_count)
    scales = state.scales or (1.0,) * len(parts)
    return {
        Role.EMBED: [(0, (decoder.embedding_scale or 1.0,))],
        Role.HEAD: [(0, (decoder.logit_scale or 1.0,))],
        Role.ATTN_Q: [(0, (mixer.attention_in_scale,))],
        Role.ATTN_K: [(0, (mixer.key_scale, mixer.attention_in_scale))],
        Role.ATTN_V: [(0, (mixer.attention_in_scale,))],
        Role.ATTN_OUT: [(0, (mixer.attention_out_scale,))],
        Role.STATE_IN: [
            (rows, (mixer.state_in_scale, scale)) for rows, scale in zip(parts, scales, strict=True)
        ],
        Role.STATE_OUT: [(0, (mixer.state_out_scale,))],
        Role.MLP_GATE: [(0, (mlp.gate_scale or 1.0,))],
        Role.MLP_DOWN: [(0, (mlp.down_scale or 1.0,))],
    }


def _limits(decoder: Decoder) -> Iterator[str]:
    if decoder.is_tied and decoder.embedding_scale != decoder.logit_scale:
        yield "embeddings and logits of different scales in one tensor"


GGUF = Gguf(
    "falcon-h1",
    renders=frozenset({
        Feature.STATE_SPACE, Feature.PARALLEL_MIXERS, Feature.STATE_NORM, Feature.STATE_SCALES,
        Feature.MIXER_SCALES, Feature.MLP_SCALES, Feature.EMBEDDING_SCALE, Feature.LOGIT_SCALE,
    }),
    names={(Role.MLP_NORM, "weight"): "ffn_norm"},
    scaled=_scaled,
    always=frozenset({"key_length"}),
    limits=_limits,
    keys=lambda _: {"logit_scale": None},
)  # fmt: skip
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "num_attention_heads": 4,
    "head_dim": 64,
    "rope_theta": 100000000000.0,
    "mamba_d_ssm": 384,
    "mamba_n_heads": 6,
    "mamba_d_head": 64,
    "mamba_n_groups": 2,
    "mamba_d_state": 64,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 16,
    "mamba_conv_bias": True,
    "mamba_proj_bias": False,
    "mamba_norm_before_gate": False,
    "mamba_rms_norm": True,
    "projectors_bias": False,
    "attention_bias": False,
    "mlp_bias": False,
    "embedding_multiplier": 5.656854249492381,
    "lm_head_multiplier": 0.0390625,
    "key_multiplier": 0.39,
    "attention_in_multiplier": 1.1,
    "attention_out_multiplier": 0.9375,
    "ssm_in_multiplier": 1.25,
    "ssm_out_multiplier": 0.2357,
    "ssm_multipliers": [0.3535, 0.25, 0.1767, 0.5, 0.3535],
    "mlp_multipliers": [0.8838, 0.5859],
}
VARIANTS = {
    "plain": {
        "mamba_rms_norm": False,
        "mamba_norm_before_gate": True,
        "mamba_d_ssm": 512,
        "mamba_n_heads": 8,
        "ssm_multipliers": [1.0] * 5,
        "mlp_multipliers": [1.0, 1.0],
    },
    "normed": {"mamba_norm_before_gate": True},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    for key in ("attention_bias", "mlp_bias", "projectors_bias", "mamba_proj_bias"):
        if config.flag(key, default=False):
            raise Failure(f"{config.where}: {key} is not supported here", "the published models have it off")
    decoder = llama.describe(Config({"rms_norm_eps": 1e-5, **config.values}, config.where))
    gate, down = _multipliers(config, "mlp_multipliers", 2) or (1.0, 1.0)
    mixer = Parallel(
        decoder.attention,
        read_state(
            config,
            decoder.hidden_size,
            decoder.final_norm if config.flag("mamba_rms_norm", default=False) else None,
            scales=_multipliers(config, "ssm_multipliers", 5),
        ),
        attention_in_scale=config.real("attention_in_multiplier", default=1.0),
        attention_out_scale=config.real("attention_out_multiplier", default=1.0),
        key_scale=config.real("key_multiplier", default=1.0),
        state_in_scale=config.real("ssm_in_multiplier", default=1.0),
        state_out_scale=config.real("ssm_out_multiplier", default=1.0),
    )
    embedding, logits = (
        config.real(key, default=1.0) for key in ("embedding_multiplier", "lm_head_multiplier")
    )
    return replace(
        decoder.with_layers(mixer=mixer).with_mlps(
            gate_scale=None if gate == 1 else gate, down_scale=None if down == 1 else down
        ),
        family="falcon_h1",
        embedding_scale=None if embedding == 1 else embedding,
        logit_scale=None if logits == 1 else logits,
    )


def _multipliers(config: Config, key: str, count: int) -> tuple[float, ...]:
    found = config.reals(key)
    if found and len(found) != count:
        raise Failure(
            f"{config.where}: {key} lists {len(found)} numbers, and {count} are needed",
            "fetch the file again",
        )
    return () if all(each == 1 for each in found) else found


def read_state(config: Config, hidden: int, norm: Norm | None, scales: tuple[float, ...] = ()) -> StateSpace:
    """Read a state space from keys that begin with `mamba_`."""
    inner = config.size("mamba_d_ssm", default=int(config.real("mamba_expand", default=2.0) * hidden))
    heads = config.size("mamba_n_heads", default=128)
    is_derived = config.values.get("mamba_d_head", "auto") == "auto"
    size = inner // heads if is_derived else config.size("mamba_d_head")
    if heads * size != inner:
        raise Failure(
            f"{config.where}: {heads} heads of {size} do not make the {inner} of a state space",
            "check mamba_n_heads, mamba_d_head, mamba_d_ssm and mamba_expand",
        )
    return StateSpace(
        head_count=heads,
        head_size=size,
        group_count=config.size("mamba_n_groups", default=1),
        state_size=config.size("mamba_d_state", default=256),
        kernel=config.size("mamba_d_conv", default=4),
        norm=norm,
        is_norm_first=norm is not None and config.flag("mamba_norm_before_gate", default=True),
        has_conv_bias=config.flag("mamba_conv_bias", default=True),
        has_bias=config.flag("mamba_proj_bias", default=False),
        times=config.span("time_step_limit", (0.0, float("inf"))),
        scales=scales,
    )

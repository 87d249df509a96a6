"""Nemotron: layer norms stored less one, squared activations, and rotary positions in half of each head."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Norm
from convert.model.families import llama, stablelm
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("NemotronForCausalLM",)
RUNS_IN = frozenset({"vllm"})
NAMING = llama.NAMING
EXAMPLE = {
    **{key: value for key, value in llama.SIZES.items() if key != "rms_norm_eps"},
    "architectures": list(CLASSES),
    "head_dim": 32,
    "hidden_act": "relu2",
    "norm_eps": 1e-5,
    "partial_rotary_factor": 0.5,
}
VARIANTS = {
    "biased": {
        "attention_bias": True,
        "mlp_bias": True,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if (activation := config.text("hidden_act", "relu2")) != "relu2":
        raise Failure(f"{config.where}: hidden_act {activation!r} is not supported here", "supported: relu2")
    values = {"partial_rotary_factor": 0.5, **config.values, "hidden_act": "silu"}
    decoder = llama.describe(Config(values, config.where))
    norm = Norm(config.real("norm_eps", default=1e-5), "layer", is_offset=True)
    decoder = decoder.with_norm(norm).with_mlps(activation="relu2", has_gate=False)
    return replace(decoder, family="nemotron")


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from stablelm.limits(decoder)
    if decoder.attention.q_size != decoder.hidden_size:
        yield "heads that are not as wide together as the hidden states"


def _keys(decoder: Decoder) -> dict[str, object]:
    is_scaled = decoder.rope is not None and decoder.rope.scaling is not None
    return {
        "attention.layer_norm_rms_epsilon": decoder.final_norm.eps,
        **({} if is_scaled else {"rope.scaling.type": "none"}),
    }


GGUF = Gguf(
    "nemotron",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.OFFSET_NORM, Feature.UNGATED_MLP, Feature.RELU2, Feature.PARTIAL_ROTARY,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.ROPE_LINEAR,
    }),
    always=frozenset({"key_length"}),
    limits=_limits,
    keys=_keys,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.LAYER_NORM, Feature.OFFSET_NORM, Feature.PARTIAL_ROTARY, Feature.RELU2, Feature.UNGATED_MLP,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
)  # fmt: skip

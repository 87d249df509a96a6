"""Mamba 2: state spaces alone."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Layer, Norm, StateSpace
from convert.model.families import nemotron_h
from convert.model.family import Gguf
from convert.model.feature import Feature

CLASSES = ("Mamba2ForCausalLM",)
RUNS_IN = frozenset({"vllm"})
NAMING = replace(
    nemotron_h.NAMING,
    names={
        role: name
        for role, name in nemotron_h.NAMING.names.items()
        if "mixer" not in name or "state" in str(role[0] if isinstance(role, tuple) else role)
    },
)
GGUF = Gguf(
    "mamba2",
    renders=frozenset({Feature.STATE_SPACE, Feature.STATE_NORM, Feature.SINGLE_BLOCKS}),
)
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_heads": 8,
    "head_dim": 64,
    "n_groups": 2,
    "state_size": 64,
    "conv_kernel": 4,
    "expand": 2,
    "hidden_act": "silu",
    "use_bias": False,
    "use_conv_bias": True,
    "rms_norm": True,
    "norm_before_gate": True,
    "chunk_size": 16,
    "time_step_limit": [0.0, float("inf")],
    "layer_norm_epsilon": 1e-5,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
VARIANTS = {"tied": {"tie_word_embeddings": True, "n_groups": 1, "num_heads": 4, "expand": 1}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if (activation := config.text("hidden_act", "silu")) != "silu":
        raise Failure(f"{config.where}: hidden_act {activation!r} is not supported here", "supported: silu")
    hidden = config.size("hidden_size")
    heads, head_size = config.size("num_heads"), config.size("head_dim", default=64)
    if (expanded := int(config.real("expand", default=2) * hidden)) != heads * head_size:
        raise Failure(
            f"{config.where}: {heads} heads of {head_size} are not expand times hidden_size ({expanded})",
            "fetch the file again",
        )
    norm = Norm(config.real("layer_norm_epsilon", default=1e-5))
    state = StateSpace(
        head_count=heads,
        head_size=head_size,
        group_count=config.size("n_groups", default=8),
        state_size=config.size("state_size"),
        kernel=config.size("conv_kernel", default=4),
        norm=norm,
        has_conv_bias=config.flag("use_conv_bias", default=True),
        has_bias=config.flag("use_bias", default=False),
        times=config.span("time_step_limit", (0.0, float("inf"))),
    )
    return Decoder(
        family="mamba2",
        layers=(Layer(state, None, attn_norm=norm, mlp_norm=None),) * config.size("num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        # No position ends it; llama.cpp's own converter says this number too.
        context_length=1 << 20,
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
    )

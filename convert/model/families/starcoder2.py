"""StarCoder 2: grouped heads and rotary positions, with layer norms, biases and a plain MLP."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Norm, Role
from convert.model.families import gpt2, llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Starcoder2ForCausalLM",)
RUNS_IN = frozenset({"vllm", "transformers.js"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.MLP_UP: "layers.{layer}.mlp.c_fc",
        Role.MLP_DOWN: "layers.{layer}.mlp.c_proj",
    },
)
GGUF = Gguf(
    "starcoder2",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH, Feature.QKV_BIAS, Feature.OUT_BIAS,
        Feature.MLP_BIAS, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    lost={Feature.WINDOW: "llama.cpp's graph for this architecture knows no window"},
    # The graph has no place for matrices without biases.
    limits=lambda decoder: () if decoder.attention.has_out_bias else ("a model without biases",),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
    lost={Feature.GELU_TANH: "mlx-lm computes GELU exactly"},
)  # fmt: skip
EXAMPLE = {
    **{key: value for key, value in llama.SIZES.items() if key != "rms_norm_eps"},
    "architectures": list(CLASSES),
    "num_attention_heads": 4,
    "hidden_act": "gelu_pytorch_tanh",
    "norm_epsilon": 1e-5,
    "norm_type": "layer_norm",
    "use_bias": True,
    "sliding_window": None,
    "tie_word_embeddings": True,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if (activation := config.text("hidden_act", "gelu_pytorch_tanh")) not in gpt2.TANH_FORMS:
        raise Failure(
            f"{config.where}: hidden_act {activation!r} is not supported here",
            f"supported: {', '.join(gpt2.TANH_FORMS)}",
        )
    has_bias = config.flag("use_bias", default=True)
    values = {**config.values, "hidden_act": "silu", "attention_bias": has_bias, "mlp_bias": has_bias}
    decoder = llama.describe(Config(values, config.where))
    window = config.size("sliding_window") if config.has("sliding_window") else None
    return replace(
        decoder.with_norm(Norm(config.real("norm_epsilon", default=1e-5), "layer"))
        .with_mlps(activation="gelu_tanh", has_gate=False)
        .with_mixers(window=window),
        family="starcoder2",
        is_tied=config.flag("tie_word_embeddings", default=True),
    )

"""LFM2: short convolutions with attention in between, and norms of each head's q and k."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role, ShortConvolution
from convert.model.families import llama
from convert.model.family import Genai, Gguf, Mlx
from convert.model.feature import Feature
from convert.model.pattern import FULL, read_kinds

CLASSES = ("Lfm2ForCausalLM",)
RUNS_IN = frozenset({"vllm"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_NORM: "layers.{layer}.operator_norm",
        Role.ATTN_Q_NORM: "layers.{layer}.self_attn.q_layernorm",
        Role.ATTN_K_NORM: "layers.{layer}.self_attn.k_layernorm",
        Role.ATTN_OUT: "layers.{layer}.self_attn.out_proj",
        Role.CONV_IN: "layers.{layer}.conv.in_proj",
        Role.CONV: "layers.{layer}.conv.conv",
        Role.CONV_OUT: "layers.{layer}.conv.out_proj",
        Role.MLP_NORM: "layers.{layer}.ffn_norm",
        Role.MLP_GATE: "layers.{layer}.feed_forward.w1",
        Role.MLP_UP: "layers.{layer}.feed_forward.w3",
        Role.MLP_DOWN: "layers.{layer}.feed_forward.w2",
        Role.FINAL_NORM: "embedding_norm",
    },
)
GGUF = Gguf(
    "lfm2",
    renders=frozenset({
        Feature.SHORT_CONVOLUTION, Feature.MIXED_MIXERS, Feature.QK_NORM,
        Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    names={Role.FINAL_NORM: "token_embd_norm"},
)  # fmt: skip


def _mlx_defaults(decoder: Decoder) -> dict[str, object]:
    """Write how wide MLPs are as mlx-lm's file reads it."""
    sizes = [layer.dense.size for layer in decoder.kinds if layer.dense]
    return {
        "block_dim": decoder.hidden_size,
        "block_ff_dim": sizes[0],
        "block_auto_adjust_ff_dim": False,
        "block_multiple_of": 1,
        "block_ffn_dim_multiplier": 1.0,
    }


MLX = Mlx(
    renders=frozenset({Feature.MIXED_MIXERS, Feature.QK_NORM, Feature.SHORT_CONVOLUTION}),
    defaults=_mlx_defaults,
    limits=lambda decoder: [] if decoder.is_tied else ["a head apart from the embedding"],
)
SIZES = {
    **{key: value for key, value in llama.SIZES.items() if key not in ("rms_norm_eps", "hidden_act")},
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "norm_eps": 1e-5,
    "rope_theta": 1000000.0,
    "conv_L_cache": 3,
    "conv_bias": False,
    "tie_word_embeddings": True,
}
GENAI = Genai("lfm2")
EXAMPLE = {
    **SIZES,
    "architectures": list(CLASSES),
    # The MLP is two thirds of this wide, rounded up.
    "block_ff_dim": 640,
    "block_auto_adjust_ff_dim": True,
    "block_ffn_dim_multiplier": 1.0,
    "block_multiple_of": 256,
    "full_attn_idxs": [2, 4],
}
VARIANTS = {
    "typed": {
        "full_attn_idxs": None,
        "layer_types": ["conv", FULL, "conv", "conv", FULL],
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": 4,
        "tie_embedding": False,
    }
}

CONVOLUTION = "conv"


def describe(config: Config) -> Decoder:
    """Read a config."""
    size = config.size("block_ff_dim", "intermediate_size")
    if config.flag("block_auto_adjust_ff_dim", default=True):
        step = config.size("block_multiple_of", default=256)
        size = int(config.real("block_ffn_dim_multiplier", default=1.0) * int(2 * size / 3))
        size = -(-size // step) * step
    return mixed(config, "lfm2").with_mlps(size=size)


def mixed(config: Config, family: str) -> Decoder:
    """Read a config of plain MLPs, with attention in some layers and convolutions in the others."""
    count = config.size("num_hidden_layers")
    chosen = config.reals("full_attn_idxs") if config.has("full_attn_idxs") else range(count)
    default = [FULL if number in chosen else CONVOLUTION for number in range(count)]
    kinds = read_kinds(config, default, known=(CONVOLUTION, FULL))
    values = {
        "intermediate_size": config.size("block_ff_dim", "intermediate_size"),
        **{key: value for key, value in config.values.items() if key != "block_ff_dim"},
        "rms_norm_eps": config.real("norm_eps", default=1e-5),
        "rope_theta": config.real("rope_theta", default=1e6),
        "hidden_act": "silu",
    }
    decoder = llama.describe(Config(values, config.where))
    decoder = decoder.with_mixers(qk_norm=decoder.final_norm)
    convolution = ShortConvolution(
        config.size("conv_L_cache", default=3), config.flag("conv_bias", default=False)
    )
    return replace(
        decoder,
        family=family,
        layers=tuple(
            layer if kind == FULL else replace(layer, mixer=convolution)
            for layer, kind in zip(decoder.layers, kinds, strict=True)
        ),
        is_tied=config.flag("tie_embedding", default=config.flag("tie_word_embeddings", default=True)),
    )

"""OLMo 2: norms after attention and MLP alone, and over all queries and all keys."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Olmo2ForCausalLM",)
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_POST_NORM: "layers.{layer}.post_attention_layernorm",
        Role.MLP_POST_NORM: "layers.{layer}.post_feedforward_layernorm",
    },
)
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
EXAMPLE = {**llama.SIZES, "architectures": list(CLASSES), "num_key_value_heads": 8, "rope_theta": 500000.0}
VARIANTS = {"grouped": {"num_key_value_heads": 2}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    eps = config.real("rms_norm_eps", default=1e-5)
    decoder = llama.describe(Config({**config.values, "rms_norm_eps": eps}, config.where))
    norm = decoder.final_norm
    return (
        replace(decoder, family="olmo2")
        .with_layers(attn_norm=None, mlp_norm=None, attn_post_norm=norm, mlp_post_norm=norm)
        .with_mixers(qk_norm=norm, qk_norm_span="row")
    )


def limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph has no place for."""
    yield from llama.square_limits(decoder)
    if decoder.is_tied:
        yield "an output head that is the embeddings"


GGUF = Gguf(
    "olmo2",
    renders=frozenset({
        Feature.NO_INPUT_NORM, Feature.POST_NORM, Feature.QK_NORM, Feature.QK_NORM_ROW,
        Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    limits=limits,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.NO_INPUT_NORM, Feature.POST_NORM, Feature.QK_NORM, Feature.QK_NORM_ROW,
    }),
)  # fmt: skip

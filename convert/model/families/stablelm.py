"""StableLM: Llama with layer norms and a quarter of each head turned, in some models in parallel."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Norm, Role
from convert.model.families import llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("StableLmForCausalLM",)
RUNS_IN = frozenset({"vllm", "transformers.js"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_Q_NORM: "layers.{layer}.self_attn.q_layernorm.norms.{expert}",
        Role.ATTN_K_NORM: "layers.{layer}.self_attn.k_layernorm.norms.{expert}",
    },
)
EXAMPLE = {
    **{key: value for key, value in llama.SIZES.items() if key != "rms_norm_eps"},
    "architectures": list(CLASSES),
    "num_attention_heads": 4,
    "layer_norm_eps": 1e-5,
    "partial_rotary_factor": 0.25,
    "use_qkv_bias": True,
}
VARIANTS = {"parallel": {"use_parallel_residual": True, "qk_layernorm": True, "use_qkv_bias": False}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    values = {"partial_rotary_factor": 0.25, **config.values}
    decoder = llama.describe(Config({**values, "attention_bias": False, "mlp_bias": False}, config.where))
    norm = Norm(config.real("layer_norm_eps", "norm_eps", default=1e-5), "layer")
    has_norms = config.flag("qk_layernorm", default=False)
    decoder = decoder.with_norm(norm).with_mixers(
        has_qkv_bias=config.flag("use_qkv_bias", default=False),
        qk_norm=replace(norm, has_bias=False) if has_norms else None,
        qk_norm_span="heads" if has_norms else "head",
    )
    if config.flag("use_parallel_residual", default=False):
        decoder = decoder.with_layers(is_parallel=True, mlp_norm=None)
    return replace(decoder, family="stablelm")


def limits(decoder: Decoder) -> Iterator[str]:
    """Name what the graph has no place for."""
    if decoder.is_tied:
        yield "an output head shared with the embeddings"


GGUF = Gguf(
    "stablelm",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.PARTIAL_ROTARY, Feature.QKV_BIAS, Feature.PARALLEL_MLP,
        Feature.QK_NORM, Feature.QK_NORM_HEADS, Feature.UNBIASED_LAYER_NORM, Feature.MIXED_NORMS,
        Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    limits=limits,
    keys=lambda decoder: {"use_parallel_residual": decoder.layer.is_parallel},
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.LAYER_NORM, Feature.PARTIAL_ROTARY, Feature.QKV_BIAS, Feature.MIXED_NORMS,
        Feature.PARALLEL_MLP, Feature.QK_NORM, Feature.QK_NORM_HEADS, Feature.UNBIASED_LAYER_NORM,
    }),
)  # fmt: skip

"""Cohere's Command R and Aya: attention and MLP in parallel, layer norms without biases, scaled logits."""

from collections.abc import Iterator
from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Norm
from convert.model.families import gemma, llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("CohereForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"vllm", "sglang", "tgi", "transformers.js"})
# The graph looks for norms of queries and keys in models of so many layers, and only there.
NORMED_LAYERS = 64
EXAMPLE = {
    **{key: value for key, value in llama.SIZES.items() if key != "rms_norm_eps"},
    "architectures": list(CLASSES),
    "layer_norm_eps": 1e-5,
    "logit_scale": 0.0625,
    "tie_word_embeddings": True,
    "use_qk_norm": False,
}
VARIANTS = {
    "normed": {
        "num_hidden_layers": NORMED_LAYERS,
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "use_qk_norm": True,
    },
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = llama.describe(config)
    norm = Norm(config.real("layer_norm_eps", default=1e-5), "layer", has_bias=False)
    rope = replace(decoder.rope, is_interleaved=True) if decoder.rope else None
    has_norms = config.flag("use_qk_norm", default=False)
    decoder = decoder.with_layers(attn_norm=norm, mlp_norm=None, is_parallel=True).with_mixers(
        rope=rope, qk_norm=norm if has_norms else None, qk_norm_span="heads" if has_norms else "head"
    )
    return replace(
        decoder,
        family="cohere",
        final_norm=norm,
        # Some were trained further than the positions that they name.
        context_length=config.size("model_max_length", "max_position_embeddings", default=8192),
        is_tied=config.flag("tie_word_embeddings", default=True),
        logit_scale=config.real("logit_scale", default=0.0625),
    )


def _limits(decoder: Decoder) -> Iterator[str]:
    yield from gemma.limits(decoder)
    yield from llama.square_limits(decoder)
    has_norms = decoder.attention.qk_norm is not None
    if has_norms != (decoder.layer_count >= NORMED_LAYERS):
        yield f"{decoder.layer_count} layers {'with' if has_norms else 'without'} norms of queries and keys"


GGUF = Gguf(
    "command-r",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNBIASED_LAYER_NORM, Feature.PARALLEL_MLP, Feature.INTERLEAVED_ROTARY,
        Feature.LOGIT_SCALE, Feature.QK_NORM, Feature.QK_NORM_HEADS,
    }),
    limits=_limits,
    keys=lambda _decoder: {"rope.scaling.type": "none"},
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.INTERLEAVED_ROTARY, Feature.LAYER_NORM, Feature.UNBIASED_LAYER_NORM, Feature.LOGIT_SCALE,
        Feature.PARALLEL_MLP, Feature.QK_NORM, Feature.QK_NORM_HEADS,
    }),
)  # fmt: skip

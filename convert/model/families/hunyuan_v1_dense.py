"""Hunyuan's dense models: Llama with norms of queries and keys after positions, and a stretched base."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("HunYuanDenseV1ForCausalLM",)
RUNS_IN = frozenset({"vllm", "transformers.js"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_Q_NORM: "layers.{layer}.self_attn.query_layernorm",
        Role.ATTN_K_NORM: "layers.{layer}.self_attn.key_layernorm",
    },
)
GGUF = Gguf(
    "hunyuan-dense",
    renders=frozenset({Feature.QK_NORM, Feature.LATE_QK_NORM, Feature.ROPE_LINEAR, Feature.ROPE_YARN}),
    always=frozenset({"key_length"}),
)
MLX = Mlx(renders=frozenset({Feature.QK_NORM, Feature.LATE_QK_NORM}))
EXAMPLE = {**llama.SIZES, "architectures": list(CLASSES), "head_dim": 64, "attention_bias": False}
VARIANTS = {
    "stretched": {
        "max_position_embeddings": 32768,
        "tie_word_embeddings": True,
        "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0},
    },
}
# The published models read so many tokens by a stretched base; their configs say the length of before.
SAID, MEANT = 32 * 1024, 256 * 1024


def describe(config: Config) -> Decoder:
    """Read a config."""
    decoder = llama.describe(Config({"rms_norm_eps": 1e-5, **config.values}, config.where))
    decoder = replace(decoder, family="hunyuan_v1_dense")
    decoder = decoder.with_mixers(qk_norm=decoder.final_norm, is_qk_norm_late=True)
    parameters = config.section("rope_parameters") or config.section("rope_scaling") or Config({})
    rope = decoder.rope
    kind = parameters.text("rope_type", parameters.text("type", "default"))
    if rope is None or kind != "dynamic" or not parameters.has("alpha"):
        return decoder
    stretch = parameters.real("alpha") ** (rope.dimensions / (rope.dimensions - 2))
    length = decoder.context_length
    return replace(
        decoder.with_mixers(rope=replace(rope, theta=rope.theta * stretch)),
        context_length=MEANT if length == SAID else length,
        deviations=(),
    )

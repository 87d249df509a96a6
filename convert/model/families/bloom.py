"""BLOOM: linear biases for positions, a norm of the embeddings, and q, k and v dealt out by head."""

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import QKV, Alibi, Attention, Decoder, Dense, Layer, Norm, Role
from convert.model.families import gpt_neox
from convert.model.family import Gguf, Naming
from convert.model.feature import Feature

CLASSES = ("BloomForCausalLM",)
RUNS_IN = frozenset({"vllm"})
NAMING = Naming(
    prefix="transformer.",
    names={
        Role.EMBED: "word_embeddings",
        Role.EMBED_NORM: "word_embeddings_layernorm",
        Role.ATTN_NORM: "h.{layer}.input_layernorm",
        **dict.fromkeys(QKV, "h.{layer}.self_attention.query_key_value"),
        Role.ATTN_OUT: "h.{layer}.self_attention.dense",
        Role.MLP_NORM: "h.{layer}.post_attention_layernorm",
        Role.MLP_UP: "h.{layer}.mlp.dense_h_to_4h",
        Role.MLP_DOWN: "h.{layer}.mlp.dense_4h_to_h",
        Role.FINAL_NORM: "ln_f",
        Role.HEAD: "lm_head",
    },
    runs=gpt_neox.BY_TURNS,
)
GGUF = Gguf(
    "bloom",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH, Feature.QKV_BIAS, Feature.OUT_BIAS,
        Feature.MLP_BIAS, Feature.ALIBI, Feature.EMBEDDING_NORM,
    }),
    names=dict.fromkeys(QKV, "attn_qkv"),
    # The graph knows it.
    keys=lambda _: {"attention.max_alibi_bias": None},
)  # fmt: skip
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "n_embed": 256,
    "n_layer": 4,
    "num_attention_heads": 4,
    "seq_length": 256,
    "layer_norm_epsilon": 1e-5,
    "apply_residual_connection_post_layernorm": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
# The number of heads need be no power of two.
VARIANTS = {"six": {"n_embed": 384, "num_attention_heads": 6}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if config.flag("apply_residual_connection_post_layernorm", default=False):
        raise Failure(
            f"{config.where}: apply_residual_connection_post_layernorm is not supported here",
            "the published models have it off",
        )
    hidden, heads = config.size("n_embed", "hidden_size"), config.size("num_attention_heads", "n_head")
    norm = Norm(config.real("layer_norm_epsilon", default=1e-5), "layer")
    layer = Layer(
        Attention(
            heads,
            heads,
            gpt_neox.read_head_size(config, hidden, heads),
            rope=None,
            has_qkv_bias=True,
            has_out_bias=True,
            alibi=Alibi(),
        ),
        Dense(4 * hidden, "gelu_tanh", has_gate=False, has_bias=True),
        attn_norm=norm,
        mlp_norm=norm,
    )
    return Decoder(
        family="bloom",
        layers=(layer,) * config.size("n_layer", "num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        # Newer configs leave it out; all were trained at this length.
        context_length=config.size("seq_length", default=2048),
        final_norm=norm,
        embed_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=True),
    )

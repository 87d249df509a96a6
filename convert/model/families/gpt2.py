"""GPT-2: learned positions, layer norms, a plain MLP, and weights stored (in, out)."""

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import QKV, Attention, Decoder, Dense, Layer, Norm, Role
from convert.model.family import CTranslate2, Gguf, Mlx, Naming, Split, Tokenizer
from convert.model.feature import Feature

CLASSES = ("GPT2LMHeadModel",)
# Not "transformers-packed": Transformers' layers for it are transposed, and look for plain weights.
RUNS_IN = frozenset({"transformers-gguf", "vllm", "sglang", "tgi", "transformers.js"})

NAMING = Naming(
    prefix="transformer.",
    names={
        Role.EMBED: "wte",
        Role.POSITION: "wpe",
        Role.ATTN_NORM: "h.{layer}.ln_1",
        **dict.fromkeys(QKV, "h.{layer}.attn.c_attn"),
        Role.ATTN_OUT: "h.{layer}.attn.c_proj",
        Role.MLP_NORM: "h.{layer}.ln_2",
        Role.MLP_UP: "h.{layer}.mlp.c_fc",
        Role.MLP_DOWN: "h.{layer}.mlp.c_proj",
        Role.FINAL_NORM: "ln_f",
        Role.HEAD: "lm_head",
    },
    transposed=frozenset({*QKV, Role.ATTN_OUT, Role.MLP_UP, Role.MLP_DOWN}),
    ignored=(r"h\.\d+\.attn\.(masked_)?bias",),
)
GGUF = Gguf(
    "gpt2",
    renders=frozenset({
        Feature.LEARNED_POSITIONS, Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
    names=dict.fromkeys(QKV, "attn_qkv"),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.LEARNED_POSITIONS, Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
    prefix="model.",
    keys=lambda decoder: {"n_ctx": decoder.context_length},
    limits=lambda decoder: [] if decoder.is_tied else ["a head apart from the embedding"],
)  # fmt: skip
CTRANSLATE2 = CTranslate2(
    renders=frozenset({
        Feature.LEARNED_POSITIONS, Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
)  # fmt: skip
TOKENIZER = Tokenizer(classes=("GPT2Tokenizer",), split=Split())
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "n_embd": 256,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 256,
    "activation_function": "gelu_new",
    "layer_norm_epsilon": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 0,
}

# Transformers spells the tanh form in several ways.
TANH_FORMS = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def describe(config: Config) -> Decoder:
    """Read a config."""
    activation = config.text("activation_function", "gelu_new")
    if activation not in TANH_FORMS:
        raise Failure(
            f"{config.where}: activation_function {activation!r} is not supported",
            f"supported: {', '.join(TANH_FORMS)}",
        )
    for key in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        if config.flag(key, default=False):
            raise Failure(f"{config.where}: {key} is not supported", "the published GPT-2 models have it off")
    if not config.flag("scale_attn_weights", default=True):
        raise Failure(f"{config.where}: scale_attn_weights is off", "the published GPT-2 models have it on")
    hidden, heads = config.size("n_embd"), config.size("n_head")
    if hidden % heads:
        raise Failure(
            f"{config.where}: n_embd {hidden} is no multiple of n_head {heads}", "fetch the file again"
        )
    norm = Norm(config.real("layer_norm_epsilon", default=1e-5), "layer")
    layer = Layer(
        Attention(heads, heads, hidden // heads, rope=None, has_qkv_bias=True, has_out_bias=True),
        Dense(
            config.size("n_inner", default=4 * hidden), activation="gelu_tanh", has_gate=False, has_bias=True
        ),
        attn_norm=norm,
        mlp_norm=norm,
    )
    return Decoder(
        family="gpt2",
        layers=(layer,) * config.size("n_layer"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=config.size("n_positions", "n_ctx", default=1024),
        final_norm=norm,
        has_positions=True,
        is_tied=config.flag("tie_word_embeddings", default=True),
    )

"""GPT-NeoX (Pythia): attention and MLP in parallel, each after its norm, and q, k and v dealt out by head."""

from functools import partial

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import QKV, Activation, Attention, Decoder, Dense, Layer, Norm, Role
from convert.model.families import gpt2, stablelm
from convert.model.family import Gguf, Mlx, Naming
from convert.model.feature import Feature
from convert.model.rotary import read_deviations, read_rope

CLASSES = ("GPTNeoXForCausalLM",)
RUNS_IN = frozenset({"vllm", "transformers.js"})


EXACT_GELU = "llama.cpp computes GELU by its tanh form"


def _rows(decoder: Decoder, layer: int, *, role: Role) -> int:
    """Say how many rows follow each other: the queries of a head of keys, its keys, or its values."""
    attention = decoder.layers[layer].attention
    if attention is None:
        raise TypeError(f"layer {layer} has no attention")
    shared = attention.head_count // attention.kv_head_count
    return attention.head_size * (shared if role is Role.ATTN_Q else 1)


BY_TURNS = {role: partial(_rows, role=role) for role in QKV}
NAMING = Naming(
    prefix="gpt_neox.",
    names={
        Role.EMBED: "embed_in",
        Role.ATTN_NORM: "layers.{layer}.input_layernorm",
        **dict.fromkeys(QKV, "layers.{layer}.attention.query_key_value"),
        Role.ATTN_OUT: "layers.{layer}.attention.dense",
        Role.MLP_NORM: "layers.{layer}.post_attention_layernorm",
        Role.MLP_UP: "layers.{layer}.mlp.dense_h_to_4h",
        Role.MLP_DOWN: "layers.{layer}.mlp.dense_4h_to_h",
        Role.FINAL_NORM: "final_layer_norm",
        Role.HEAD: "embed_out",
    },
    runs=BY_TURNS,
    ignored=(r"layers\.\d+\.attention\.((masked_)?bias|rotary_emb\.inv_freq)",),
)
GGUF = Gguf(
    "gptneox",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH, Feature.QKV_BIAS, Feature.OUT_BIAS,
        Feature.MLP_BIAS, Feature.PARTIAL_ROTARY, Feature.PARALLEL_MLP, Feature.PARALLEL_MLP_NORM,
        Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
    names=dict.fromkeys(QKV, "attn_qkv"),
    lost={Feature.GELU: EXACT_GELU},
    limits=stablelm.limits,
    keys=lambda decoder: {"use_parallel_residual": decoder.layer.is_parallel},
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH, Feature.QKV_BIAS, Feature.OUT_BIAS,
        Feature.MLP_BIAS, Feature.PARTIAL_ROTARY, Feature.PARALLEL_MLP, Feature.PARALLEL_MLP_NORM,
    }),
    names={
        role: f"model.{name.replace('layers.', 'h.')}"
        for role, name in NAMING.names.items()
        if isinstance(role, Role)
    },
    prefix="",
    lost={Feature.GELU: "mlx-lm computes GELU by its tanh form"},
    limits=lambda decoder: [
        "MLPs that are not four times as wide"
        for layer in decoder.kinds
        if layer.dense and layer.dense.size != 4 * decoder.hidden_size
    ],
)  # fmt: skip
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "layer_norm_eps": 1e-5,
    "rotary_pct": 0.25,
    "rotary_emb_base": 10000,
    "hidden_act": "gelu",
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
VARIANTS = {"sequential": {"use_parallel_residual": False, "hidden_act": "gelu_fast", "rotary_pct": 1.0}}


def read_gelu(config: Config, key: str, default: str = "gelu") -> Activation:
    """Read which form of GELU an MLP has."""
    found = config.text(key, default)
    if found in gpt2.TANH_FORMS:
        return "gelu_tanh"
    if found != "gelu":
        raise Failure(
            f"{config.where}: {key} {found!r} is not supported here",
            f"supported: gelu, {', '.join(gpt2.TANH_FORMS)}",
        )
    return "gelu"


def describe(config: Config) -> Decoder:
    """Read a config."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head_size = read_head_size(config, hidden, heads)
    values = {
        **config.values,
        "partial_rotary_factor": config.real("rotary_pct", default=0.25),
        "rope_theta": config.real("rotary_emb_base", "rope_theta", default=10000.0),
    }
    rope = read_rope(Config(values, config.where), head_size, default_theta=10000.0)
    has_bias = config.flag("attention_bias", default=True)
    norm = Norm(config.real("layer_norm_eps", default=1e-5), "layer")
    layer = Layer(
        Attention(heads, heads, head_size, rope, has_qkv_bias=has_bias, has_out_bias=has_bias),
        Dense(
            config.size("intermediate_size"), read_gelu(config, "hidden_act"), has_gate=False, has_bias=True
        ),
        attn_norm=norm,
        mlp_norm=norm,
        is_parallel=config.flag("use_parallel_residual", default=True),
    )
    return Decoder(
        family="gpt_neox",
        layers=(layer,) * config.size("num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=2048),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
        deviations=read_deviations(Config(values, config.where)),
    )


def read_head_size(config: Config, hidden: int, heads: int) -> int:
    """Divide the hidden states among the heads."""
    if hidden % heads:
        raise Failure(
            f"{config.where}: {heads} attention heads cannot share a hidden size of {hidden}",
            "fetch the file again",
        )
    return hidden // heads

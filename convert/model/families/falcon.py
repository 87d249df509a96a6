"""Falcon: attention and MLP in parallel; q, k and v dealt out by head of keys."""

from collections.abc import Iterator
from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import QKV, Alibi, Attention, Decoder, Dense, Layer, Norm, Part, Role
from convert.model.families import bloom, gpt_neox
from convert.model.family import Gguf, Types
from convert.model.feature import Feature
from convert.model.rotary import read_deviations, read_rope

CLASSES = ("FalconForCausalLM",)
RUNS_IN = frozenset({"vllm"})
_NAMES: dict[Role | tuple[Role, Part], str] = {
    role: name for role, name in bloom.NAMING.names.items() if role is not Role.EMBED_NORM
}
_TWO_NORMS: dict[Role | tuple[Role, Part], str] = {
    Role.ATTN_NORM: "h.{layer}.ln_attn",
    Role.MLP_NORM: "h.{layer}.ln_mlp",
}
TWO_NORMS_NAMING = replace(bloom.NAMING, names={**_NAMES, **_TWO_NORMS})


def _has_two_norms(decoder: Decoder) -> bool:
    return decoder.layer.is_parallel and decoder.layer.mlp_norm is not None


NAMING = replace(
    bloom.NAMING,
    names=_NAMES,
    other=lambda decoder: TWO_NORMS_NAMING if _has_two_norms(decoder) else None,
)


def _limits(decoder: Decoder) -> Iterator[str]:
    if not decoder.layer.is_parallel:
        yield "attention and MLP one after the other"


ONE_NORM = Gguf(
    "falcon",
    renders=frozenset({
        Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH, Feature.PARALLEL_MLP,
        Feature.PARALLEL_MLP_NORM,
    }),
    names=dict.fromkeys(QKV, "attn_qkv"),
    lost={Feature.GELU: gpt_neox.EXACT_GELU},
    limits=_limits,
    keys=lambda _: {"tensor_data_layout": "jploski"},
    types=Types(
        head="Q8_0",
        down={
            "Q3_K_M": ("Q5_K", "Q4_K", "Q3_K"),
            "Q3_K_L": ("Q4_K", "Q4_K", "Q4_K"),
            "Q4_K_M": ("Q6_K", "Q5_K", "Q4_K"),
            "Q4_K_S": ("Q4_K", "Q4_K", "Q4_K"),
        },
        out={"Q3_K_L": "Q4_K"},
    ),
)  # fmt: skip
TWO_NORMS = replace(
    ONE_NORM, names={**ONE_NORM.names, Role.ATTN_NORM: "attn_norm_2", Role.MLP_NORM: "attn_norm"}
)
GGUF = replace(ONE_NORM, other=lambda decoder: TWO_NORMS if _has_two_norms(decoder) else None)
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "layer_norm_epsilon": 1e-5,
    "alibi": False,
    "bias": False,
    "multi_query": True,
    "new_decoder_architecture": False,
    "parallel_attn": True,
    "bos_token_id": 11,
    "eos_token_id": 11,
}
VARIANTS = {
    "grouped": {
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "max_position_embeddings": 256,
        "ffn_hidden_size": 768,
    },
    "normed": {
        "new_decoder_architecture": True,
        "num_kv_heads": 2,
        "num_ln_in_parallel_attn": 1,
    },
    "alibi": {"alibi": True, "multi_query": False, "bias": True, "parallel_attn": False},
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    hidden = config.size("n_embed", "hidden_size")
    heads = config.size("num_attention_heads", "n_head")
    is_new = config.flag("new_decoder_architecture", default=False)
    kv_heads = config.size("num_kv_heads", "n_head_kv", default=heads) if is_new else heads
    if not is_new and config.flag("multi_query", default=True):
        kv_heads = 1
    has_alibi, has_bias = config.flag("alibi", default=False), config.flag("bias", default=False)
    head_size = gpt_neox.read_head_size(config, hidden, heads)
    norm = Norm(config.real("layer_norm_epsilon", default=1e-5), "layer")
    is_parallel = config.flag("parallel_attn", default=True)
    norm_count = config.size("num_ln_in_parallel_attn", default=2 if is_new else 1)
    if is_new > is_parallel or (norm_count > 1) > is_new:
        raise Failure(
            f"{config.where}: parallel_attn or num_ln_in_parallel_attn contradicts new_decoder_architecture",
            "fetch the file again",
        )
    layer = Layer(
        Attention(
            heads,
            kv_heads,
            head_size,
            None if has_alibi else read_rope(config, head_size, default_theta=10000.0),
            has_qkv_bias=has_bias,
            has_out_bias=has_bias,
            alibi=Alibi(head_size**-0.5, is_coarse=True) if has_alibi else None,
        ),
        Dense(
            config.size("ffn_hidden_size", default=4 * hidden),
            gpt_neox.read_gelu(config, "activation"),
            has_gate=False,
            has_bias=has_bias,
        ),
        attn_norm=norm,
        mlp_norm=norm if norm_count > 1 or not is_parallel else None,
        is_parallel=is_parallel,
    )
    return Decoder(
        family="falcon",
        layers=(layer,) * config.size("num_hidden_layers", "n_layer"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=2048),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=True),
        deviations=read_deviations(config),
    )

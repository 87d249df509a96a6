"""The original Qwen (QWenLMHeadModel): Qwen2 by other names, with q, k and v in one tensor."""

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Role, Rope
from convert.model.families import Naming

CLASSES = ("QWenLMHeadModel",)

NAMING = Naming(
    prefix="transformer.",
    names={
        Role.EMBED: "wte",
        Role.ATTN_NORM: "h.{layer}.ln_1",
        Role.ATTN_Q: "h.{layer}.attn.c_attn",
        Role.ATTN_K: "h.{layer}.attn.c_attn",
        Role.ATTN_V: "h.{layer}.attn.c_attn",
        Role.ATTN_OUT: "h.{layer}.attn.c_proj",
        Role.MLP_NORM: "h.{layer}.ln_2",
        Role.MLP_GATE: "h.{layer}.mlp.w2",
        Role.MLP_UP: "h.{layer}.mlp.w1",
        Role.MLP_DOWN: "h.{layer}.mlp.c_proj",
        Role.FINAL_NORM: "ln_f",
        Role.HEAD: "lm_head",
    },
    aliases={"transformer.lm_head.weight": "lm_head.weight"},
    ignored=(r"(h\.\d+\.attn\.)?rotary_emb\.inv_freq", r"h\.\d+\.attn\.(masked_bias|logn_tensor)"),
)


def describe(config: Config) -> Decoder:
    """Read a Qwen-1 config; what it does beyond its trained length is said, not carried."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    head_size = config.size("kv_channels", default=max(1, hidden // heads))
    if config.real("rotary_pct", default=1.0) != 1.0 or head_size * heads != hidden:
        raise Failure(
            f"{config.where}: partial rotary positions or heads of another width are in no published Qwen",
            "check rotary_pct, kv_channels and hidden_size",
        )
    mlp_size = config.size("intermediate_size")
    if mlp_size % 2:
        raise Failure(
            f"{config.where}: intermediate_size {mlp_size} is odd, and counts both halves of the MLP",
            "fetch the file again",
        )
    if not config.flag("no_bias", default=True):
        raise Failure(
            f"{config.where}: no_bias is false, and biases outside q, k and v are in no published Qwen",
            "fetch the file again",
        )
    length = config.size("seq_length", "max_position_embeddings")
    deviations = tuple(
        f"{what} beyond {length} tokens is not carried"
        for key, what in (
            ("use_dynamic_ntk", "dynamic NTK scaling of rotary positions"),
            ("use_logn_attn", "logarithmic scaling of attention"),
        )
        if config.flag(key, default=True)
    )
    return Decoder(
        family="qwen2",
        layer_count=config.size("num_hidden_layers"),
        hidden_size=hidden,
        head_count=heads,
        kv_head_count=heads,
        head_size=head_size,
        mlp_size=mlp_size // 2,
        vocab_size=config.size("vocab_size"),
        context_length=length,
        norm="rms",
        norm_eps=config.real("layer_norm_epsilon", default=1e-6),
        activation="silu",
        rope=Rope(config.real("rotary_emb_base", default=10000.0), head_size),
        is_tied=config.flag("tie_word_embeddings", default=False),
        has_qkv_bias=True,
        deviations=deviations,
    )

"""Llama and what is named like it (TinyLlama, Llama 2 and 3)."""

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import Naming
from convert.model.rotary import read_deviations, read_rope

CLASSES = ("LlamaForCausalLM",)
RUNS_IN = frozenset(
    {
        "transformers-gguf",
        "vllm-gguf",
        "sglang-gguf",
        "transformers-packed",
        "vllm",
        "sglang",
        "tgi",
        "lmdeploy",
    }
)

NAMING = Naming(
    prefix="model.",
    names={
        Role.EMBED: "embed_tokens",
        Role.ATTN_NORM: "layers.{layer}.input_layernorm",
        Role.ATTN_Q: "layers.{layer}.self_attn.q_proj",
        Role.ATTN_K: "layers.{layer}.self_attn.k_proj",
        Role.ATTN_V: "layers.{layer}.self_attn.v_proj",
        Role.ATTN_Q_NORM: "layers.{layer}.self_attn.q_norm",
        Role.ATTN_K_NORM: "layers.{layer}.self_attn.k_norm",
        Role.ATTN_OUT: "layers.{layer}.self_attn.o_proj",
        Role.MLP_NORM: "layers.{layer}.post_attention_layernorm",
        Role.MLP_GATE: "layers.{layer}.mlp.gate_proj",
        Role.MLP_UP: "layers.{layer}.mlp.up_proj",
        Role.MLP_DOWN: "layers.{layer}.mlp.down_proj",
        Role.FINAL_NORM: "norm",
        Role.HEAD: "lm_head",
    },
    aliases={"model.lm_head.weight": "lm_head.weight"},
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
)

ACTIVATIONS = {"silu": "silu", "swish": "silu"}


def describe(config: Config) -> Decoder:
    """Read a Llama config."""
    if config.text("hidden_act", "silu") not in ACTIVATIONS:
        raise Failure(
            f"{config.where}: hidden_act {config.text('hidden_act')!r} is not supported here",
            "supported: silu",
        )
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", default=heads)
    if heads % kv_heads:
        raise Failure(
            f"{config.where}: {heads} attention heads cannot share {kv_heads} key-value heads",
            "num_attention_heads must be a multiple of num_key_value_heads",
        )
    head_size = config.size("head_dim", default=max(1, hidden // heads))
    has_bias = config.flag("attention_bias", default=False)
    return Decoder(
        family="llama",
        layer_count=config.size("num_hidden_layers"),
        hidden_size=hidden,
        head_count=heads,
        kv_head_count=kv_heads,
        head_size=head_size,
        mlp_size=config.size("intermediate_size"),
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=2048),
        norm="rms",
        norm_eps=config.real("rms_norm_eps", default=1e-6),
        activation="silu",
        rope=read_rope(config, head_size, default_theta=10000.0),
        is_tied=config.flag("tie_word_embeddings", default=False),
        has_qkv_bias=has_bias,
        has_out_bias=has_bias,
        has_mlp_bias=config.flag("mlp_bias", default=False),
        deviations=read_deviations(config),
    )

"""Llama and what is named like it (TinyLlama, Llama 2 and 3)."""

from collections.abc import Iterator

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Attention, Decoder, Dense, Layer, Norm, Role
from convert.model.family import CTranslate2, Gguf, Mlx, Naming
from convert.model.feature import Feature
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
        "transformers.js",
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
        Role.ROUTER: "layers.{layer}.mlp.gate",
        Role.EXPERT_GATE: "layers.{layer}.mlp.experts.{expert}.gate_proj",
        Role.EXPERT_UP: "layers.{layer}.mlp.experts.{expert}.up_proj",
        Role.EXPERT_DOWN: "layers.{layer}.mlp.experts.{expert}.down_proj",
        Role.SHARED_GATE: "layers.{layer}.mlp.shared_expert.gate_proj",
        Role.SHARED_UP: "layers.{layer}.mlp.shared_expert.up_proj",
        Role.SHARED_DOWN: "layers.{layer}.mlp.shared_expert.down_proj",
        Role.FINAL_NORM: "norm",
        Role.HEAD: "lm_head",
    },
    ignored=(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq",),
)

# What graphs of llama.cpp multiply by scales, where they know NVFP4.
SCALES = frozenset({
    Role.ATTN_Q, Role.ATTN_K, Role.ATTN_V, Role.ATTN_OUT, Role.MLP_GATE, Role.MLP_UP, Role.MLP_DOWN,
})  # fmt: skip
EXPERT_SCALES = frozenset({Role.EXPERT_GATE, Role.EXPERT_UP, Role.EXPERT_DOWN})

GGUF = Gguf(
    "llama",
    renders=frozenset({
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
        Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3, Feature.ROPE_YARN, Feature.ROPE_LONGROPE,
    }),
    is_interleaved=True,
    lost={
        Feature.WINDOW: "llama.cpp's graph for this architecture knows no window",
    },
    large_layers=80,
    large_shares_heads=True,
    scales=SCALES | EXPERT_SCALES,
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3,
        Feature.ROPE_YARN, Feature.MIXED_WINDOWS,
    }),
    lost={Feature.WINDOW: "mlx-lm's file of the family wants a layer without a window"},
)  # fmt: skip

CTRANSLATE2 = CTranslate2(
    renders=frozenset({
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.ROPE_LINEAR, Feature.ROPE_LLAMA3,
    }),
)  # fmt: skip

SIZES = {
    "vocab_size": 512,
    "hidden_size": 256,
    "intermediate_size": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXAMPLE = {
    **SIZES,
    "architectures": ["LlamaForCausalLM"],
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
}

ACTIVATIONS = ("silu", "swish")


def square_limits(decoder: Decoder) -> Iterator[str]:
    """Name what a graph has no place for that takes heads to be as wide together as the hidden states."""
    if decoder.hidden_size != decoder.attention.q_size:
        yield "heads that are not as wide together as the hidden states"


def describe(config: Config) -> Decoder:
    """Read a config, or that of a family with the same keys."""
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
    norm = Norm(config.real("rms_norm_eps", default=1e-6))
    mlp = Dense(config.size("intermediate_size"), has_bias=config.flag("mlp_bias", default=False))
    mixer = Attention(
        heads,
        kv_heads,
        head_size,
        read_rope(config, head_size, default_theta=10000.0),
        has_qkv_bias=has_bias,
        has_out_bias=has_bias,
    )
    return Decoder(
        family="llama",
        layers=(Layer(mixer, mlp, attn_norm=norm, mlp_norm=norm),) * config.size("num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=2048),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
        deviations=read_deviations(config),
    )

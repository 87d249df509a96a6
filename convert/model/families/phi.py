"""Phi-1, 1.5 and 2: attention and MLP in parallel, layer norms, biases, positions in a part of each head."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Attention, Decoder, Dense, Layer, Norm, Role
from convert.model.families import gpt2, llama
from convert.model.family import Gguf, Mlx
from convert.model.feature import Feature
from convert.model.rotary import read_deviations, read_rope

CLASSES = ("PhiForCausalLM",)
RUNS_IN = frozenset({"vllm", "sglang", "transformers.js"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_Q_NORM: "layers.{layer}.self_attn.q_layernorm",
        Role.ATTN_K_NORM: "layers.{layer}.self_attn.k_layernorm",
        Role.ATTN_OUT: "layers.{layer}.self_attn.dense",
        Role.MLP_UP: "layers.{layer}.mlp.fc1",
        Role.MLP_DOWN: "layers.{layer}.mlp.fc2",
        Role.FINAL_NORM: "final_layernorm",
    },
)
GGUF = Gguf(
    "phi2",
    renders=frozenset({
        Feature.PARALLEL_MLP, Feature.LAYER_NORM, Feature.UNGATED_MLP, Feature.GELU_TANH,
        Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS, Feature.HEAD_BIAS,
        Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN,
    }),
)  # fmt: skip
MLX = Mlx(
    renders=frozenset({
        Feature.PARALLEL_MLP, Feature.PARTIAL_ROTARY, Feature.LAYER_NORM, Feature.UNGATED_MLP,
        Feature.GELU_TANH, Feature.HEAD_BIAS, Feature.QKV_BIAS, Feature.OUT_BIAS, Feature.MLP_BIAS,
    }),
)  # fmt: skip
TOKENIZER = replace(gpt2.TOKENIZER, classes=("CodeGenTokenizer",))
EXAMPLE = {
    **{key: value for key, value in llama.SIZES.items() if key != "rms_norm_eps"},
    "architectures": list(CLASSES),
    "intermediate_size": 512,
    "num_key_value_heads": 8,
    "layer_norm_eps": 1e-5,
    "hidden_act": "gelu_new",
    "partial_rotary_factor": 0.5,
    "qk_layernorm": False,
}
VARIANTS = {"normed": {"qk_layernorm": True, "partial_rotary_factor": 0.25, "num_key_value_heads": None}}


def describe(config: Config) -> Decoder:
    """Read a config."""
    if (activation := config.text("hidden_act", "gelu_new")) not in gpt2.TANH_FORMS:
        raise Failure(
            f"{config.where}: hidden_act {activation!r} is not supported here",
            f"supported: {', '.join(gpt2.TANH_FORMS)}",
        )
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    kv_heads = config.size("num_key_value_heads", default=heads)
    if hidden % heads or heads % kv_heads:
        raise Failure(
            f"{config.where}: {heads} heads fit neither {hidden} columns nor {kv_heads} heads of keys",
            "the file is damaged; fetch it again",
        )
    head_size = hidden // heads
    values = {"partial_rotary_factor": 0.5} | {
        key: value for key, value in config.values.items() if value is not None
    }
    norm = Norm(config.real("layer_norm_eps", default=1e-5), "layer")
    layer = Layer(
        Attention(
            heads,
            kv_heads,
            head_size,
            read_rope(Config(values, config.where), head_size, default_theta=10000.0),
            has_qkv_bias=True,
            has_out_bias=True,
            qk_norm=norm if config.flag("qk_layernorm", default=False) else None,
        ),
        Dense(config.size("intermediate_size"), activation="gelu_tanh", has_gate=False, has_bias=True),
        attn_norm=norm,
        mlp_norm=None,
        is_parallel=True,
    )
    return Decoder(
        family="phi",
        layers=(layer,) * config.size("num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=2048),
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
        has_head_bias=True,
        deviations=read_deviations(config),
    )

"""OPT: learned positions with an offset of two, layer norms, biases and ReLU."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Attention, Decoder, Dense, Layer, Norm, Role
from convert.model.families import gpt_neox
from convert.model.family import Naming, Split, Tokenizer

CLASSES = ("OPTForCausalLM",)
RUNS_IN = frozenset({"vllm", "transformers.js"})
NAMING = Naming(
    prefix="model.decoder.",
    names={
        Role.EMBED: "embed_tokens",
        Role.POSITION: "embed_positions",
        Role.ATTN_NORM: "layers.{layer}.self_attn_layer_norm",
        Role.ATTN_Q: "layers.{layer}.self_attn.q_proj",
        Role.ATTN_K: "layers.{layer}.self_attn.k_proj",
        Role.ATTN_V: "layers.{layer}.self_attn.v_proj",
        Role.ATTN_OUT: "layers.{layer}.self_attn.out_proj",
        Role.MLP_NORM: "layers.{layer}.final_layer_norm",
        Role.MLP_UP: "layers.{layer}.fc1",
        Role.MLP_DOWN: "layers.{layer}.fc2",
        Role.FINAL_NORM: "final_layer_norm",
        Role.HEAD: "lm_head",
    },
)
# The first files leave out the outer module.
NAMING = replace(NAMING, others=(replace(NAMING, prefix="decoder."),))
# Its repos hold GPT-2's kind of vocabulary, not always under its name.
TOKENIZER = Tokenizer(split=Split())
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "hidden_size": 256,
    "ffn_dim": 768,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "word_embed_proj_dim": 256,
    "activation_function": "relu",
    "do_layer_norm_before": True,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
VARIANTS = {"bare": {"enable_bias": False, "tie_word_embeddings": False}}

ONLY = "all published sizes but 350M have it the other way"


def describe(config: Config) -> Decoder:
    """Read a config."""
    hidden, heads = config.size("hidden_size"), config.size("num_attention_heads")
    for key, wanted in (("do_layer_norm_before", True), ("_remove_final_layer_norm", False)):
        if config.flag(key, default=wanted) is not wanted:
            raise Failure(f"{config.where}: {key} is {str(not wanted).lower()}, which is not supported", ONLY)
    if (width := config.size("word_embed_proj_dim", default=hidden)) != hidden:
        raise Failure(
            f"{config.where}: word_embed_proj_dim {width} is not hidden_size, which is not supported",
            ONLY,
        )
    if (activation := config.text("activation_function", "relu")) != "relu":
        raise Failure(
            f"{config.where}: activation_function {activation!r} is not supported here", "supported: relu"
        )
    has_bias = config.flag("enable_bias", default=True)
    # torch.nn.LayerNorm's own epsilon, which no config says.
    norm = Norm(1e-5, "layer", has_weight=config.flag("layer_norm_elementwise_affine", default=True))
    layer = Layer(
        Attention(
            heads,
            heads,
            gpt_neox.read_head_size(config, hidden, heads),
            rope=None,
            has_qkv_bias=has_bias,
            has_out_bias=has_bias,
        ),
        Dense(config.size("ffn_dim"), "relu", has_gate=False, has_bias=has_bias),
        attn_norm=norm,
        mlp_norm=norm,
    )
    return Decoder(
        family="opt",
        layers=(layer,) * config.size("num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=config.size("max_position_embeddings", default=2048),
        final_norm=norm,
        has_positions=True,
        position_offset=2,
        is_tied=config.flag("tie_word_embeddings", default=True),
    )

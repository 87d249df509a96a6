"""The original Qwen (QWenLMHeadModel): Qwen2 by other names, with q, k and v in one tensor."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import QKV, Attention, Decoder, Dense, Layer, Norm, Role, Rope
from convert.model.families import qwen2
from convert.model.family import Canonical, Naming, Reference, Tokenizer

CLASSES = ("QWenLMHeadModel",)
NAMING = Naming(
    prefix="transformer.",
    names={
        Role.EMBED: "wte",
        Role.ATTN_NORM: "h.{layer}.ln_1",
        **dict.fromkeys(QKV, "h.{layer}.attn.c_attn"),
        Role.ATTN_OUT: "h.{layer}.attn.c_proj",
        Role.MLP_NORM: "h.{layer}.ln_2",
        Role.MLP_GATE: "h.{layer}.mlp.w2",
        Role.MLP_UP: "h.{layer}.mlp.w1",
        Role.MLP_DOWN: "h.{layer}.mlp.c_proj",
        Role.FINAL_NORM: "ln_f",
        Role.HEAD: "lm_head",
    },
    ignored=(r"(h\.\d+\.attn\.)?rotary_emb\.inv_freq", r"h\.\d+\.attn\.(masked_bias|logn_tensor)"),
)
TOKENIZER = Tokenizer(
    split=qwen2.TOKENIZER.split,
    # tokenization_qwen.py: these follow the ranks, as many as there is room for.
    ranked_special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205))),
    # None is shipped: the code lays turns out like this, and puts this system prompt where none is given.
    chat_template=(
        "{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}"
        "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
        "{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    # The chat models' files name no token: their code stops at the end of a turn.
    ends_turns=True,
)
EXAMPLE = {
    "architectures": list(CLASSES),
    "vocab_size": 512,
    "hidden_size": 256,
    # Half of it, 352, is no multiple of 256: Qwen-1.8B has such rows.
    "intermediate_size": 2 * 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "kv_channels": 64,
    "layer_norm_epsilon": 1e-6,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 256,
    "max_position_embeddings": 1024,
    "no_bias": True,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "tie_word_embeddings": False,
}


def describe(config: Config) -> Decoder:
    """Read a config; what the model does beyond its trained length is recorded, not carried."""
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
    norm = Norm(config.real("layer_norm_epsilon", default=1e-6))
    rope = Rope(config.real("rotary_emb_base", default=10000.0), head_size)
    layer = Layer(
        Attention(heads, heads, head_size, rope, has_qkv_bias=True),
        Dense(mlp_size // 2),
        attn_norm=norm,
        mlp_norm=norm,
    )
    return Decoder(
        family="qwen2",
        layers=(layer,) * config.size("num_hidden_layers"),
        hidden_size=hidden,
        vocab_size=config.size("vocab_size"),
        context_length=length,
        final_norm=norm,
        is_tied=config.flag("tie_word_embeddings", default=False),
        deviations=deviations,
    )


CANONICAL = Canonical(
    qwen2.written, private_keys=frozenset({"chat_format", "max_window_size", "stop_words_ids"})
)

_REFERENCE_NAMES = (
    (r"transformer\.wte\.(.*)", r"model.embed_tokens.\1"),
    (r"transformer\.h\.(\d+)\.attn\.c_proj\.(.*)", r"model.layers.\1.self_attn.o_proj.\2"),
    (r"transformer\.h\.(\d+)\.mlp\.w2\.(.*)", r"model.layers.\1.mlp.gate_proj.\2"),
    (r"transformer\.h\.(\d+)\.mlp\.w1\.(.*)", r"model.layers.\1.mlp.up_proj.\2"),
    (r"transformer\.h\.(\d+)\.mlp\.c_proj\.(.*)", r"model.layers.\1.mlp.down_proj.\2"),
    (r"transformer\.h\.(\d+)\.ln_1\.(.*)", r"model.layers.\1.input_layernorm.\2"),
    (r"transformer\.h\.(\d+)\.ln_2\.(.*)", r"model.layers.\1.post_attention_layernorm.\2"),
    (r"transformer\.ln_f\.(.*)", r"model.norm.\1"),
    (r"lm_head\.(.*)", r"lm_head.\1"),
)
_REFERENCE_FUSED = re.compile(r"transformer\.h\.(\d+)\.attn\.c_attn\.(weight|bias)")
_REFERENCE_BUFFERS = re.compile(r".*(rotary_emb\.inv_freq|masked_bias|logn_tensor)")


def _reference_config(config: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "qwen2",
        "vocab_size": config["vocab_size"],
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"] // 2,
        "num_hidden_layers": config["num_hidden_layers"],
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_attention_heads"],
        "hidden_act": "silu",
        "max_position_embeddings": config.get("seq_length", config.get("max_position_embeddings", 2048)),
        "rms_norm_eps": config.get("layer_norm_epsilon", 1e-6),
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": float(config.get("rotary_emb_base", 10000.0)),
        },
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "use_sliding_window": False,
    }


def _reference_tensors(tensors: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, tensor in tensors.items():
        if fused := _REFERENCE_FUSED.fullmatch(name):
            for part, rows in zip("qkv", tensor.chunk(3, dim=0), strict=True):
                yield f"model.layers.{fused[1]}.self_attn.{part}_proj.{fused[2]}", rows
        elif not _REFERENCE_BUFFERS.fullmatch(name):
            yield _renamed(name), tensor


def _renamed(name: str) -> str:
    for pattern, replacement in _REFERENCE_NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(replacement)
    raise Failure(f"{name}: no such tensor in any published model of this family")


REFERENCE = Reference(_reference_config, _reference_tensors)

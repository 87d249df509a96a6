"""Phi-3: Llama with q, k and v in one tensor, gate and up in another."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import QKV, Decoder, Part, Role
from convert.model.families import llama
from convert.model.family import Genai, Gguf, Mlx
from convert.model.feature import Feature

CLASSES = ("Phi3ForCausalLM",)
RUNS_IN = frozenset({"transformers-gguf", "transformers-packed", "vllm", "sglang", "tgi", "transformers.js"})
# As tools write it that quantize gate and up by themselves.
APART = replace(
    llama.NAMING,
    names={**llama.NAMING.names, **dict.fromkeys(QKV, "layers.{layer}.self_attn.qkv_proj")},
)
FUSED_MLP: dict[Role | tuple[Role, Part], str] = dict.fromkeys(
    (Role.MLP_GATE, Role.MLP_UP), "layers.{layer}.mlp.gate_up_proj"
)
NAMING = replace(APART, names={**APART.names, **FUSED_MLP}, others=(APART,))
GGUF = Gguf(
    "phi3",
    renders=frozenset({
        Feature.WINDOW, Feature.PARTIAL_ROTARY, Feature.ROPE_LINEAR, Feature.ROPE_YARN, Feature.ROPE_LONGROPE,
    }),
    names={**dict.fromkeys(QKV, "attn_qkv"), Role.MLP_GATE: "ffn_up"},
    # Phi-4 has a window of zero, unlike the models that look back over one.
    always=frozenset({"sliding_window", "original_context_length"}),
)  # fmt: skip
MLX = Mlx()
GENAI = Genai("phi3", reread_length=4096)
EXAMPLE = {
    **llama.SIZES,
    "architectures": list(CLASSES),
    "num_key_value_heads": 8,
    "sliding_window": None,
    "pad_token_id": 0,
}


def describe(config: Config) -> Decoder:
    """Read a config."""
    window = config.size("sliding_window") if config.has("sliding_window") else None
    return replace(llama.describe(config), family="phi3").with_mixers(window=window)

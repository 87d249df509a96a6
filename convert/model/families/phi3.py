"""Phi-3: Llama with q, k and v in one tensor, gate and up in another."""

from dataclasses import replace

from convert.model.config import Config
from convert.model.decoder import Decoder, Role
from convert.model.families import llama
from convert.model.rotary import read_rope

CLASSES = ("Phi3ForCausalLM",)
RUNS_IN = frozenset({"transformers-gguf", "transformers-packed", "vllm", "sglang", "tgi"})
NAMING = replace(
    llama.NAMING,
    names={
        **llama.NAMING.names,
        Role.ATTN_Q: "layers.{layer}.self_attn.qkv_proj",
        Role.ATTN_K: "layers.{layer}.self_attn.qkv_proj",
        Role.ATTN_V: "layers.{layer}.self_attn.qkv_proj",
        Role.MLP_GATE: "layers.{layer}.mlp.gate_up_proj",
        Role.MLP_UP: "layers.{layer}.mlp.gate_up_proj",
    },
)


def describe(config: Config) -> Decoder:
    """Read a Phi-3 config."""
    decoder = llama.describe(config)
    return replace(
        decoder,
        family="phi3",
        rope=read_rope(config, decoder.head_size, default_theta=10000.0),
        sliding_window=config.size("sliding_window") if config.has("sliding_window") else None,
    )

"""Gemma 1: wide heads, a tied head, embeddings scaled, norms stored less one."""

from dataclasses import replace

from convert.errors import Failure
from convert.model.config import Config
from convert.model.decoder import Decoder
from convert.model.families import llama

CLASSES = ("GemmaForCausalLM",)
NAMING = llama.NAMING
RUNS_IN = frozenset({"transformers-packed", "vllm", "sglang", "tgi"})

# Gemma's first configs said "gelu" and meant the tanh form; hidden_activation came to say so.
TANH_FORMS = ("gelu", "gelu_pytorch_tanh", "gelu_new")


def describe(config: Config) -> Decoder:
    """Read a Gemma config."""
    activation = config.text("hidden_activation", config.text("hidden_act", "gelu_pytorch_tanh"))
    if activation not in TANH_FORMS:
        raise Failure(
            f"{config.where}: activation {activation!r} is not supported",
            f"supported: {', '.join(TANH_FORMS)}",
        )
    values = {**config.values, "hidden_act": "silu", "head_dim": config.size("head_dim", default=256)}
    return replace(
        llama.describe(Config(values, config.where)),
        family="gemma",
        activation="gelu_tanh",
        is_tied=config.flag("tie_word_embeddings", default=True),
        has_unit_norm_offset=True,
        has_scaled_embedding=True,
    )

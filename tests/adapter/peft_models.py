"""Tiny models of Transformers' own with adapters of PEFT's, seeded and far from what they begin as."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING

if TYPE_CHECKING:
    from pathlib import Path

VOCAB_SIZE = 96
GPT2 = {"vocab_size": VOCAB_SIZE, "n_positions": 32, "n_embd": 32, "n_layer": 2, "n_head": 2}
LLAMA = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}


def quiet() -> None:
    """Leave out what PEFT and torch warn of at their import and their work."""
    warnings.simplefilter("ignore")


def model(model_type: str, **changes: Any) -> Any:
    """Make a model with seeded weights."""
    torch.manual_seed(0)
    config = CONFIG_MAPPING[model_type](**{**{"gpt2": GPT2, "llama": LLAMA}.get(model_type, {}), **changes})
    made = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)](config)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.2)
    return made.eval()


def train(base: Any, seed: int = 1, spread: float = 0.3, **settings: Any) -> Any:
    """Put an adapter on a model, and give it numbers as if it had learned."""
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - not in each process that collects

    with warnings.catch_warnings():
        quiet()
        adapted = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", **settings))
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                parameter.normal_(0.5 if "magnitude" in name else 0, spread)
                if "magnitude" in name:
                    parameter.abs_()
    return adapted.eval()


def save(base: Any, folder: Path, adapted: Any = None, adapter: Path | None = None) -> None:
    """Save a model, and its adapter into another folder."""
    with warnings.catch_warnings():
        quiet()
        base.save_pretrained(folder)
        if adapted is not None:
            adapted.save_pretrained(adapter)

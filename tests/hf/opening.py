"""Checkpoints in Transformers, also of families that it knows by another name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from verify.runtimes._weights import read_weights, reference_of

if TYPE_CHECKING:
    from pathlib import Path


def opened(folder: Path) -> Any:
    """Open a checkpoint, all of whose tensors must be those that Transformers' class has."""
    said = json.loads((folder / "config.json").read_text("utf-8"))
    own = said["model_type"]
    if known := reference_of(own):
        said = known.config(said)
        config = CONFIG_MAPPING[said["model_type"]].from_dict(said)
        weights = {name: tensor.contiguous() for name, tensor in read_weights(folder, own).items()}
        model, found = AutoModelForCausalLM.from_config(config).__class__.from_pretrained(
            None, config=config, state_dict=weights, dtype=torch.float32, output_loading_info=True
        )
    else:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True
        )
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    return model.eval()

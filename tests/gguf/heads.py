"""Tiny checkpoints with a layer that guesses a further token, named as the published models have it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tests import tiny
from tests.hf.describing import make

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

# Families whose published models have one.
FAMILIES = ("qwen3_5_text", "qwen3_5_moe_text", "qwen3_next", "glm4_moe", "glm4_moe_lite")
# Where they are layers after the last, with tables of their own.
LAYERS = ("glm4_moe", "glm4_moe_lite", "deepseek_v3")
# What llama.cpp's converter looks for in a config besides.
KEYS = {"glm4_moe_lite": {"scoring_func": "sigmoid"}}
WEIGHTS = "model-00001-of-00001.safetensors"


def recipe(model_type: str, spelling: int = 0) -> tiny.Recipe:
    return tiny.Recipe(
        model_type,
        {"mtp_num_hidden_layers": 1, **KEYS.get(model_type, {})},
        dtype="F32",
        spread=0.03,
        spelling=spelling,
        seed=5,
    )


def heads(model: tiny.Recipe) -> dict[str, NDArray[np.float32]]:
    """Make its tensors: a layer like the last one, and what brings two tokens together."""
    last = f"model.layers.{tiny.described(model.model_type).layer_count - 1}."
    hidden, vocab_size = (tiny.CONFIGS[model.model_type][key] for key in ("hidden_size", "vocab_size"))
    random = np.random.default_rng(9)
    is_layer = model.model_type in LAYERS
    first = f"model.layers.{tiny.described(model.model_type).layer_count}." if is_layer else "mtp.layers.0."
    found = {
        name.replace(last, first): values
        for name, values in tiny.tensors(replace(model, seed=6)).items()
        if name.startswith(last)
    }
    if is_layer:
        shapes = dict.fromkeys(("enorm", "hnorm", "shared_head.norm"), (hidden,)) | {
            "eh_proj": (hidden, 2 * hidden),
            **dict.fromkeys(("embed_tokens", "shared_head.head"), (vocab_size, hidden)),
        }
        return found | {
            f"{first}{name}.weight": random.standard_normal(shape, np.float32)
            for name, shape in shapes.items()
        }
    found["mtp.fc.weight"] = random.standard_normal((hidden, 2 * hidden), np.float32)
    for name in ("norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"):
        found[f"mtp.{name}.weight"] = random.standard_normal(hidden, np.float32)
    return found


def checkpoint(folder: Path, model: tiny.Recipe) -> Path:
    """Write a checkpoint with an index, as the published models have one."""
    make(folder, model)
    (folder / "model.safetensors").unlink()
    made = {**tiny.tensors(model), **heads(model)}
    tiny.write_safetensors(folder / WEIGHTS, made, "F32")
    index = {"metadata": {}, "weight_map": dict.fromkeys(made, WEIGHTS)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    return folder

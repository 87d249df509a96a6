"""A GGUF of 32 bits answers in llama.cpp what its source answers in Transformers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from tests import tiny
from tests.gguf import oracle
from tests.hf.opening import opened

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, tiny.VOCAB_SIZE, 100)]
# llama.cpp takes its GELU from a table of 16-bit floats; at these weights that is less than the tolerance.
SPREAD = 0.03


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def reference(folder: Path) -> NDArray[np.float32]:
    with torch.no_grad():
        return np.asarray(opened(folder)(torch.tensor([TOKENS])).logits[0].numpy(), np.float32)


VARIANTS = {
    **{name: tiny.Recipe(name, dtype="F32", spread=SPREAD) for name in tiny.rendered("gguf")},
    "gpt2-bare": tiny.Recipe("gpt2", dtype="F32", spread=SPREAD, has_prefix=False),
    "gpt2-untied": tiny.Recipe("gpt2", {"tie_word_embeddings": False}, dtype="F32", spread=SPREAD),
    "llama-linear": tiny.Recipe(
        "llama", {"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, dtype="F32", spread=SPREAD
    ),
    "llama-biased": tiny.Recipe(
        "llama", {"attention_bias": True, "mlp_bias": True, "rope_scaling": None}, dtype="F32", spread=SPREAD
    ),
    "llama-rope-parameters": tiny.Recipe(
        "llama",
        {"rope_scaling": None, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
        dtype="F32",
        spread=SPREAD,
    ),
    "qwen2-yarn": tiny.Recipe(
        "qwen2",
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}},
        dtype="F32",
        spread=SPREAD,
    ),
    "phi3-longrope": tiny.Recipe(
        "phi3",
        {
            # llama.cpp takes the long factors where its context is longer than this, and here it is not.
            "original_max_position_embeddings": 256,
            "max_position_embeddings": 512,
            "rope_scaling": {
                "type": "longrope",
                "short_factor": [1.0 + 0.01 * number for number in range(16)],
                "long_factor": [2.0 + 0.1 * number for number in range(16)],
            },
        },
        dtype="F32",
        spread=SPREAD,
    ),
}


FAMILIES = tiny.cases(name for name in tiny.rendered("gguf") if name in VARIANTS)


@pytest.mark.parametrize("variant", [*FAMILIES, *(name for name in VARIANTS if name not in tiny.CONFIGS)])
def test_logits_are_those_of_transformers(variant: str, tmp_path: Path) -> None:
    folder = tiny.make(tmp_path / "model", VARIANTS[variant])
    (path,) = oracle.convert_folder(folder, tmp_path / "out", ["F32"])["F32"]
    wanted = reference(folder)
    assert np.abs(oracle.logits(path, TOKENS) - wanted).max() < 1e-3 * np.abs(wanted).max()


def qwen1_logits(made: dict[str, NDArray[np.float32]], config: dict[str, Any]) -> NDArray[np.float32]:
    """The equations of the original Qwen, written from its paper and config, in 64 bits."""
    weights = {name: values.astype(np.float64) for name, values in made.items()}
    hidden_size, heads = config["hidden_size"], config["num_attention_heads"]
    head_size, length = hidden_size // heads, len(TOKENS)
    angles = np.outer(
        np.arange(length), config["rotary_emb_base"] ** (-np.arange(0, head_size, 2) / head_size)
    )
    cosine, sine = (np.tile(turn(angles), 2)[:, None, :] for turn in (np.cos, np.sin))

    def normed(values: NDArray[np.float64], name: str) -> NDArray[np.float64]:
        scale = np.sqrt((values**2).mean(-1, keepdims=True) + config["layer_norm_epsilon"])
        out: NDArray[np.float64] = values / scale * weights[name]
        return out

    def turned(values: NDArray[np.float64]) -> NDArray[np.float64]:
        first, second = np.split(values, 2, axis=-1)
        out: NDArray[np.float64] = values * cosine + np.concatenate([-second, first], axis=-1) * sine
        return out

    hidden = weights["transformer.wte.weight"][TOKENS]
    future = np.triu(np.full((length, length), -np.inf), 1)
    for layer in range(config["num_hidden_layers"]):
        at = f"transformer.h.{layer}."
        mixed = normed(hidden, at + "ln_1.weight") @ weights[at + "attn.c_attn.weight"].T
        mixed += weights[at + "attn.c_attn.bias"]
        query, key, value = (part.reshape(length, heads, head_size) for part in np.split(mixed, 3, axis=-1))
        scores = np.einsum("qhd,khd->hqk", turned(query), turned(key)) / np.sqrt(head_size) + future
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        seen = np.einsum("hqk,khd->qhd", shares, value).reshape(length, hidden_size)
        hidden = hidden + seen @ weights[at + "attn.c_proj.weight"].T
        inner = normed(hidden, at + "ln_2.weight")
        gate = inner @ weights[at + "mlp.w2.weight"].T
        up = inner @ weights[at + "mlp.w1.weight"].T
        hidden = hidden + (up * gate / (1 + np.exp(-gate))) @ weights[at + "mlp.c_proj.weight"].T
    out = normed(hidden, "transformer.ln_f.weight") @ weights["lm_head.weight"].T
    return out.astype(np.float32)


def relabeled(made: dict[str, NDArray[np.float32]], config: dict[str, Any]) -> NDArray[np.float32]:
    """The same weights under Qwen2's names, run by Transformers."""
    names = {
        "wte": "model.embed_tokens", "ln_f": "model.norm", "ln_1": "input_layernorm",
        "ln_2": "post_attention_layernorm", "attn.c_proj": "self_attn.o_proj", "mlp.w1": "mlp.up_proj",
        "mlp.w2": "mlp.gate_proj", "mlp.c_proj": "mlp.down_proj",
    }  # fmt: skip
    state: dict[str, torch.Tensor] = {}
    for name, values in made.items():
        bare = name.removeprefix("transformer.")
        if ".attn.c_attn." in bare:
            _, layer, _, _, part = bare.split(".")
            for letter, piece in zip("qkv", np.split(values, 3), strict=True):
                state[f"model.layers.{layer}.self_attn.{letter}_proj.{part}"] = torch.from_numpy(piece.copy())
        elif bare.startswith("h."):
            _, layer, rest = bare.split(".", 2)
            stem = rest.removesuffix(".weight")
            state[f"model.layers.{layer}.{names[stem]}.weight"] = torch.from_numpy(values)
        else:
            stem = bare.removesuffix(".weight")
            state[f"{names.get(stem, stem)}.weight"] = torch.from_numpy(values)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"] // 2,
            num_hidden_layers=config["num_hidden_layers"],
            num_attention_heads=config["num_attention_heads"],
            num_key_value_heads=config["num_attention_heads"],
            rms_norm_eps=config["layer_norm_epsilon"],
            rope_parameters={"rope_type": "default", "rope_theta": float(config["rotary_emb_base"])},
            tie_word_embeddings=False,
        )
    ).eval()
    model.load_state_dict(state)
    with torch.no_grad():
        return np.asarray(model(torch.tensor([TOKENS])).logits[0].numpy(), np.float32)


def test_qwen1_is_itself_and_qwen2_by_other_names(tmp_path: Path) -> None:
    recipe = tiny.Recipe("qwen", dtype="F32", spread=SPREAD)
    folder = tiny.make(tmp_path / "model", recipe)
    config = json.loads((folder / "config.json").read_text())
    (path,) = oracle.convert_folder(folder, tmp_path / "out", ["F32"])["F32"]
    found, made = oracle.logits(path, TOKENS), tiny.tensors(recipe)
    assert np.abs(found - qwen1_logits(made, config)).max() < 1e-3
    assert np.abs(found - relabeled(made, config)).max() < 1e-3
    swapped = tiny.tensors(replace(recipe, seed=1))
    assert np.abs(found - qwen1_logits(swapped, config)).max() > 0.1

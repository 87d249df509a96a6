"""Rows with an adapter in them equal what PEFT's own merging makes of the whole model."""

from __future__ import annotations

import copy
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from convert.checkpoint import open_checkpoint
from convert.checkpoint.adapter import Stack, adapt, open_adapter
from tests.adapter import peft_models

if TYPE_CHECKING:
    from pathlib import Path

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONV = ["c_attn", "c_proj", "c_fc"]
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "linear": ("llama", {}, {"target_modules": LINEAR, "r": 4, "lora_alpha": 7}),
    "one matrix": ("llama", {}, {"target_modules": ["q_proj"], "r": 1}),
    "rank stabilized": ("llama", {}, {"target_modules": LINEAR, "r": 8, "use_rslora": True}),
    "DoRA": ("llama", {}, {"target_modules": LINEAR, "r": 4, "use_dora": True}),
    "patterns": (
        "llama",
        {},
        {
            "target_modules": LINEAR,
            "rank_pattern": {"q_proj": 2, "layers.1.mlp.up_proj": 6, r"layers\.0.*down_proj": 3},
            "alpha_pattern": {"^model.layers.1.self_attn.v_proj": 32, "mlp.down_proj": 5},
        },
    ),
    "biases of its own": (
        "llama",
        {"attention_bias": True},
        {"target_modules": ["q_proj", "o_proj"], "lora_bias": True, "lora_alpha": 4},
    ),
    "biases trained": ("llama", {"attention_bias": True}, {"target_modules": ["q_proj"], "bias": "all"}),
    "biases of its modules": (
        "llama",
        {"attention_bias": True},
        {"target_modules": ["q_proj"], "bias": "lora_only"},
    ),
    "whole modules": (
        "llama",
        {},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    ),
    "embedding and head": ("llama", {}, {"target_modules": ["embed_tokens", "lm_head", "q_proj"], "r": 3}),
    "embedding with DoRA": (
        "llama",
        {},
        {"target_modules": ["embed_tokens", "lm_head"], "r": 3, "use_dora": True},
    ),
    "tokens": ("llama", {}, {"target_modules": ["q_proj"], "trainable_token_indices": [3, 95, 40]}),
    "tokens by module": (
        "llama",
        {},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"lm_head": [1], "embed_tokens": [0, 7]}},
    ),
    "parameters by name": ("llama", {}, {"target_modules": [], "target_parameters": ["q_proj.weight"]}),
    "stacked experts": (
        "qwen3_moe",
        {
            **peft_models.LLAMA,
            "head_dim": 8,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
        },
        {
            "target_modules": ["q_proj"],
            "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
            "r": 2,
            "rank_pattern": {"experts.down_proj": 3},
        },
    ),
    "Conv1D": ("gpt2", {}, {"target_modules": CONV, "fan_in_fan_out": True, "r": 4}),
    "Conv1D, not said": ("gpt2", {}, {"target_modules": CONV, "r": 4}),
    "Conv1D with DoRA": ("gpt2", {}, {"target_modules": CONV, "use_dora": True, "fan_in_fan_out": True}),
    "Conv1D with biases": (
        "gpt2",
        {},
        {"target_modules": CONV, "lora_bias": True, "use_rslora": True, "fan_in_fan_out": True},
    ),
    "positions": (
        "gpt2",
        {},
        {"target_modules": ["wpe", "c_fc"], "modules_to_save": ["ln_f"], "fan_in_fan_out": True},
    ),
}


def merged(case: str, folder: Path) -> dict[str, Any]:
    """Save a case's model and adapter, and let PEFT merge them."""
    model_type, changes, settings = CASES[case]
    with warnings.catch_warnings():
        peft_models.quiet()
        base = peft_models.model(model_type, **changes)
        adapted = peft_models.train(copy.deepcopy(base), **settings)
        peft_models.save(base, folder / "model", adapted, folder / "adapter")
        state: dict[str, Any] = adapted.merge_and_unload().state_dict()
    return {name: tensor.numpy() for name, tensor in state.items()}


def is_conv(name: str) -> bool:
    return name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight"))


def stacks_of(wanted: dict[str, Any]) -> list[Stack]:
    """Say which of the tensors on disk the experts' parameters are made of."""
    return [
        Stack(
            module,
            parameter,
            tuple(tuple(f"{module}.{expert}.{part}.weight" for part in parts) for expert in range(4)),
        )
        for name in wanted
        if name.endswith(".experts.down_proj")
        for module in [name.removesuffix(".down_proj")]
        for parameter, parts in (("gate_up_proj", ("gate_proj", "up_proj")), ("down_proj", ("down_proj",)))
    ]


def unstacked(wanted: dict[str, Any], stacks: list[Stack]) -> dict[str, Any]:
    """Take the experts' parameters apart into the tensors on disk."""
    found = dict(wanted)
    for stack in stacks:
        whole = found.pop(f"{stack.module}.{stack.parameter}")
        for values, members in zip(whole, stack.experts, strict=True):
            found |= zip(members, np.split(values, len(members)), strict=True)
    return found


# One for each way of computing rows; the others differ in their numbers.
QUICK = (
    "patterns",
    "biases of its own",
    "embedding with DoRA",
    "tokens",
    "stacked experts",
    "Conv1D with DoRA",
)


@pytest.mark.parametrize(
    "case",
    [case if case in QUICK else pytest.param(case, marks=pytest.mark.slow) for case in CASES],
)
def test_rows_are_those_that_peft_merges(case: str, tmp_path: Path) -> None:
    wanted = merged(case, tmp_path)
    stacks = stacks_of(wanted)
    wanted = unstacked(wanted, stacks)
    adapter = open_adapter(tmp_path / "adapter")
    found = adapt(open_checkpoint(tmp_path / "model"), adapter, is_transposed=is_conv, stacks=stacks)
    with open_checkpoint(tmp_path / "model") as base, found:
        assert set(found.tensors) == set(base.tensors)
        assert found.changed
        for name in found.tensors:
            values = wanted[name].T if is_conv(name) else wanted[name]
            count = len(values)
            rows, in_slices = (
                np.concatenate(
                    [
                        found.rows(name, row, min(count, row + step), is_transposed=is_conv(name))
                        for row in range(0, count, step)
                    ]
                )
                for step in (count, 7)
            )
            np.testing.assert_allclose(rows, values.reshape(count, -1), rtol=1e-5, atol=2e-6)
            assert rows.tobytes() == in_slices.tobytes(), "the same bits, whatever is read at once"
            before = base.rows(name, 0, count, is_transposed=is_conv(name))
            assert (name in found.changed) is not np.array_equal(before, rows)

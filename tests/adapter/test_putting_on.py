"""The source with its adapter, as verification asks it: PEFT's own numbers, in either form of its weights."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from convert.errors import Failure
from tests import tiny
from tests.adapter import peft_models
from tests.adapter.test_converting import EXPERTS, LLAMA, LORA
from tests.hf import describing
from verify.runtimes import RuntimeSettings, transformers

if TYPE_CHECKING:
    from pathlib import Path

IDS = [1, 40, 90, 7, 250, 33, 5, 61]
TOKENS = {"target_modules": ["embed_tokens", "q_proj"], "r": 3, "trainable_token_indices": {"lm_head": [40]}}


def make(place: Path, model_type: str, changes: dict[str, Any], settings: dict[str, Any]) -> Any:
    """Write a model in BF16 and an adapter; return PEFT's logits in float32."""
    folder = describing.make(place / "model", tiny.Recipe(model_type, changes, dtype="BF16", spread=0.08))
    with warnings.catch_warnings():
        peft_models.quiet()
        base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        base.config.name_or_path = base.name_or_path = "Owner/Base"
        adapted = peft_models.train(base, spread=0.1, **settings)
        adapted.save_pretrained(place / "adapter")
        with torch.inference_mode():
            return adapted(torch.tensor([IDS])).logits[0].numpy()


def asked(place: Path, dtype: str, adapter: str = "adapter") -> Any:
    options = {"tokenizer": str(place / "model"), "adapter": str(place / adapter), "dtype": dtype}
    with warnings.catch_warnings():
        peft_models.quiet()
        runtime = transformers.open_runtime(str(place / "model"), RuntimeSettings(64, 1, options))
        return np.concatenate(list(runtime.logits(IDS)))


@pytest.mark.parametrize(
    "settings", [{**LORA, "use_dora": True}, TOKENS], ids=["lengths", "an embedding and tokens of a head"]
)
def test_it_is_pefts_own_model(settings: dict[str, Any], tmp_path: Path) -> None:
    wanted = make(tmp_path, "llama", LLAMA, settings)
    np.testing.assert_allclose(asked(tmp_path, "float32"), wanted, atol=1e-5)
    # Mapped weights are widened while a module works; tokens that were replaced are stored as the model is.
    np.testing.assert_allclose(asked(tmp_path, "streamed"), wanted, atol=2e-2)


def test_stacked_experts_need_wide_weights(tmp_path: Path) -> None:
    make(tmp_path, "gpt_oss", {"num_hidden_layers": 2, "layer_types": ["full_attention"] * 2}, EXPERTS)
    with pytest.raises(Failure, match="stacked experts"):
        asked(tmp_path, "streamed")


def test_an_adapter_without_safetensors_is_not_unpickled(tmp_path: Path) -> None:
    make(tmp_path, "llama", LLAMA, LORA)
    (tmp_path / "adapter" / "adapter_model.safetensors").rename(tmp_path / "adapter" / "adapter_model.bin")
    with pytest.raises(Failure, match=r"there is no adapter_model\.safetensors"):
        asked(tmp_path, "float32")


def test_an_adapter_for_another_model_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "llama", {**LLAMA, "num_hidden_layers": 3}, LORA)
    (tmp_path / "adapter").rename(tmp_path / "longer")
    make(tmp_path, "llama", LLAMA, LORA)
    with pytest.raises(Failure, match="not this model's"):
        asked(tmp_path, "float32", "longer")

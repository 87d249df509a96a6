"""How far weights have moved a model: its odds on what the source says itself, beside the source's.

The dialogues only give the beginnings: most of what is in them are names drawn by chance, which no model can
foresee, and on which a worse one may well be luckier.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from tests.gptq.text import held_out

if TYPE_CHECKING:
    from pathlib import Path

WINDOW, WINDOWS, AT_ONCE = 128, 64, 16
BEGINNING = 48  # tokens of a dialogue; the source goes on from there


@dataclass(frozen=True)
class Loss:
    """Against the source: perplexity of its words as a ratio, divergence over them in nats."""

    ppl_ratio: float
    kl_mean: float


class Judge:
    """Runs weights in the source's place."""

    def __init__(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        self._config = AutoConfig.from_pretrained(folder)
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        begun = torch.tensor(held_out(tokenizer, WINDOW * WINDOWS)).reshape(WINDOWS, WINDOW)[:, :BEGINNING]
        self._source = self._model(weights)
        # By chance, not by the likeliest token: that would be the same few words again and again.
        torch.manual_seed(0)
        # The model's own settings would stop it at an end of text, and fill up with what it never said.
        self._source.generation_config = GenerationConfig(
            do_sample=True, top_k=0, max_new_tokens=WINDOW - BEGINNING, pad_token_id=0
        )
        self._ids = self._source.generate(begun, attention_mask=torch.ones_like(begun))

    def loss(self, weights: dict[str, torch.Tensor]) -> Loss:
        """Compare, a few windows at once."""
        model = self._model(weights)
        dearer, divergence = [], []
        with torch.no_grad():
            for ids in self._ids.split(AT_ONCE):
                found, source = (
                    torch.log_softmax(each(ids).logits[:, BEGINNING - 1 : -1], -1)
                    for each in (model, self._source)
                )
                divergence.append((source.exp() * (source - found)).sum(-1))
                dearer.append((source - found).gather(-1, ids[:, BEGINNING:, None]))
        return Loss(math.exp(float(torch.cat(dearer).mean())), float(torch.cat(divergence).mean()))

    def _model(self, weights: dict[str, torch.Tensor]) -> Any:
        model = AutoModelForCausalLM.from_config(self._config, dtype=torch.float32).eval()
        said = model.load_state_dict(weights, strict=False)
        assert not said.unexpected_keys
        assert set(said.missing_keys) <= {"lm_head.weight"}
        model.tie_weights()
        return model

"""How far weights have moved a model: its odds on dialogues that it never saw, beside the source's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tokenizers
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tests.gptq.text import held_out

if TYPE_CHECKING:
    from pathlib import Path

WINDOW, WINDOWS, AT_ONCE = 256, 48, 8


@dataclass(frozen=True)
class Loss:
    """Against the source: perplexity of the answers as a ratio, divergence of all tokens in nats."""

    ppl_ratio: float
    kl_mean: float


class Judge:
    """Runs weights in the source's place."""

    def __init__(self, folder: Path, weights: dict[str, torch.Tensor]) -> None:
        self._config = AutoConfig.from_pretrained(folder)
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        ids, is_answer = held_out(tokenizer, WINDOW * WINDOWS)
        self._ids = torch.tensor(ids).reshape(WINDOWS, WINDOW)
        self._is_answer = torch.tensor(is_answer).reshape(WINDOWS, WINDOW)
        self._source = self._model(weights)

    def loss(self, weights: dict[str, torch.Tensor]) -> Loss:
        """Compare, a few windows at once."""
        model = self._model(weights)
        dearer, divergence = [], []
        with torch.no_grad():
            for first in range(0, WINDOWS, AT_ONCE):
                ids = self._ids[first : first + AT_ONCE]
                is_answer = self._is_answer[first : first + AT_ONCE, 1:]
                found, source = (torch.log_softmax(each(ids).logits, -1) for each in (model, self._source))
                divergence.append((source.exp() * (source - found)).sum(-1).flatten())
                more = (source - found)[:, :-1].gather(-1, ids[:, 1:, None])[..., 0]
                dearer.append(more[is_answer])
        return Loss(math.exp(float(torch.cat(dearer).mean())), float(torch.cat(divergence).mean()))

    def _model(self, weights: dict[str, torch.Tensor]) -> Any:
        model = AutoModelForCausalLM.from_config(self._config, dtype=torch.float32).eval()
        said = model.load_state_dict(weights, strict=False)
        assert not said.unexpected_keys
        assert set(said.missing_keys) <= {"lm_head.weight"}
        model.tie_weights()
        return model

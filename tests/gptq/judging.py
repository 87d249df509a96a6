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

WINDOW, WINDOWS = 256, 24


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
        self._ids = torch.tensor(ids).reshape(-1, WINDOW)
        self._is_answer = torch.tensor(is_answer).reshape(-1, WINDOW)[:, 1:]
        self._source = self._odds(weights)

    def loss(self, weights: dict[str, torch.Tensor]) -> Loss:
        """Compare."""
        found = self._odds(weights)
        kl = (self._source.exp() * (self._source - found)).sum(-1).mean()
        return Loss(math.exp(self._cost(found) - self._cost(self._source)), float(kl))

    def _odds(self, weights: dict[str, torch.Tensor]) -> Any:
        model = AutoModelForCausalLM.from_config(self._config, dtype=torch.float32).eval()
        said = model.load_state_dict(weights, strict=False)
        assert not said.unexpected_keys
        assert set(said.missing_keys) <= {"lm_head.weight"}
        model.tie_weights()
        with torch.no_grad():
            return torch.log_softmax(model(self._ids).logits, -1)

    def _cost(self, odds: Any) -> float:
        """What an answer's token costs, in nats."""
        each = -odds[:, :-1].gather(-1, self._ids[:, 1:, None])[..., 0]
        return float(each[self._is_answer].mean())

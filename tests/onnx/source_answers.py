"""What a source model answers, in Transformers or by the equations of the original Qwen."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from convert.checkpoint import open_checkpoint
from tests import tiny
from tests.gguf.test_logits import qwen1_logits
from tests.hf.opening import opened

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

TOKENS = [int(token) for token in np.random.default_rng(3).integers(3, tiny.VOCAB_SIZE, 100)]
SPREAD = 0.03


def variant(model_type: str, **changes: Any) -> tiny.Recipe:
    """Describe a model whose logits are of a size at which 1e-4 means something."""
    return tiny.Recipe(model_type, changes, dtype="F32", spread=SPREAD)


def answers(folder: Path) -> NDArray[np.float32]:
    """Score every next token of the same text."""
    torch.set_num_threads(1)
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "qwen":
        with open_checkpoint(folder) as checkpoint:
            weights = {name: np.array(checkpoint.read(name)) for name in checkpoint.tensors}
        return qwen1_logits(weights, config)
    with torch.no_grad():
        return np.asarray(opened(folder)(torch.tensor([TOKENS])).logits[0].numpy(), np.float32)

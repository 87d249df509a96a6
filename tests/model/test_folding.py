"""Scales that change no answer, in every family that has a place for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.checkpoint.scaled import ScaledCheckpoint
from convert.learning.scales import multipliers
from convert.model.folding import REFUSED, folds
from convert.model.forward import RENDERS, Forward
from tests import tiny
from tests.rounding.test_rounding_learning import opened

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = np.random.default_rng(0).integers(3, 250, 20).astype(np.int32)
QUICK, SLOW = {"gpt2"}, {"gemma", "phi3", "falcon", "qwen3_5_text"}


def names() -> list[str]:
    """List what the text can pass through, and scales can be folded into."""
    return [name for name in tiny.CONFIGS if tiny.described(name).features <= RENDERS - REFUSED]


@pytest.mark.parametrize("name", tiny.cases_of(names(), QUICK, SLOW))
def test_logits_stay(name: str, tmp_path: Path) -> None:
    decoder, weights = opened(tiny.make(tmp_path, tiny.Recipe(name, dtype="F32")))
    random = np.random.default_rng(1)
    # Powers of two, by which nothing is rounded: what is left over would not be rounding.
    found = {fold: np.exp2(random.integers(-2, 3, fold.count)).astype(np.float32) for fold in folds(decoder)}
    assert found
    made = multipliers(decoder, weights, found)
    before = Forward(decoder, weights.checkpoint, weights.origins).logits(TOKENS)
    after = Forward(decoder, ScaledCheckpoint(weights.checkpoint, made), weights.origins).logits(TOKENS)
    assert np.abs(after - before).max() < 1e-4
    # One that is left out shows.
    del made[next(iter(made))]
    other = Forward(decoder, ScaledCheckpoint(weights.checkpoint, made), weights.origins).logits(TOKENS)
    assert np.abs(other - before).max() > 1e-3

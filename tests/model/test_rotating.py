"""Rotations that change no answer, in every family that has nothing they cannot pass through."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.checkpoint.hadamard import Rotation
from convert.checkpoint.rotated import RotatedCheckpoint
from convert.model.decoder import Origin, Ref, Role
from convert.model.feature import Feature
from convert.model.forward import RENDERS, Forward
from convert.model.rotating import REFUSED, changes
from tests import tiny
from tests.rounding.test_rounding_learning import opened

if TYPE_CHECKING:
    from pathlib import Path

TOKENS = np.random.default_rng(0).integers(3, 250, 20).astype(np.int32)
QUICK, SLOW = {"gpt2"}, {"llama", "gemma", "qwen2", "qwen3_moe", "falcon", "deepseek_v3", "gpt_oss"}


def names() -> list[str]:
    """List what the test's own pass knows, and what may be rotated."""
    return [name for name in tiny.CONFIGS if tiny.described(name).features <= RENDERS - REFUSED]


@pytest.mark.parametrize("name", tiny.cases_of(names(), QUICK, SLOW))
def test_logits_stay(name: str, tmp_path: Path) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe(name, dtype="F32")))
    origins, copies = dict(weights.origins), {}
    before = Forward(decoder, weights.checkpoint, origins).logits(TOKENS)
    if decoder.is_tied and decoder.final_norm.has_weight:
        decoder, copies = replace(decoder, is_tied=False), {"head": origins[Ref(Role.EMBED)].name}
        origins[Ref(Role.HEAD)] = Origin("head")
    keeps_mean = Feature.LAYER_NORM in decoder.features
    rotation = Rotation(decoder.hidden_size, 1, keeps_mean=keeps_mean)
    made = changes(decoder, origins)
    rotated = RotatedCheckpoint(weights.checkpoint, made, rotation, copies)
    rotated.spill(tmp_path, 2, lambda _: None)
    assert [each.name for each in tmp_path.iterdir()] == ["model"]
    after = Forward(decoder, rotated, origins).logits(TOKENS)
    # Of the largest, which are about ten where experts are random.
    assert 0 < np.abs(after - before).max() < 1e-4 * max(1, np.abs(before).max() / 2)
    # One matrix that is left out shows.
    out = next(place for place, each in made.items() if each.is_spilled)
    del made[out]
    wrong = RotatedCheckpoint(weights.checkpoint, made, rotation, copies)
    wrong.spill(tmp_path, 2, lambda _: None)
    assert np.abs(Forward(decoder, wrong, origins).logits(TOKENS) - before).max() > 1e-3


@pytest.mark.parametrize("size", [64, 96, 45])
def test_a_rotation_is_orthogonal_and_may_keep_the_mean(size: int) -> None:
    whole = np.eye(size, dtype=np.float32)
    for keeps_mean in (True, False):
        matrix = Rotation(size, 0, keeps_mean=keeps_mean).rows(whole)
        assert np.abs(matrix @ matrix.T - whole).max() < 1e-6
        assert np.abs(matrix).max() < 0.9
        assert (np.abs(matrix.sum(axis=1) - 1).max() < 1e-5) == keeps_mean
        assert (matrix != Rotation(size, 1, keeps_mean=keeps_mean).rows(whole)).any()

"""mlx-lm computes from our files what Transformers computes from the source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load_model

from convert.model.families import family
from convert.model.feature import Feature
from tests import tiny
from tests.hf.describing import convert_to, make
from tests.onnx.source_answers import SPREAD, TOKENS, answers

if TYPE_CHECKING:
    from pathlib import Path

# GELU by its other form, where the manifest says so.
CLOSE = {Feature.GELU, Feature.GELU_TANH}


def lost(name: str) -> frozenset[Feature]:
    """List what the manifest says that mlx-lm leaves out."""
    decoder = tiny.described(name)
    mlx = family(decoder.family).mlx
    return decoder.features & mlx.lost.keys() if mlx else frozenset()


NAMES = [name for name in tiny.rendered("mlx") if lost(name) <= CLOSE]


@pytest.mark.parametrize("name", tiny.cases_of(NAMES, ("qwen2",), tiny.sample(NAMES)))
def test_logits_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", tiny.Recipe(name, dtype="F32", spread=SPREAD))
    folder = convert_to(tmp_path, source, "mlx: {quants: [fp32]}") / "mlx-fp32"
    model, _ = load_model(folder)
    found, wanted = np.array(model(mx.array([TOKENS]))[0]), answers(source)
    assert np.abs(found - wanted).max() < (1e-3 if lost(name) else 1e-4)

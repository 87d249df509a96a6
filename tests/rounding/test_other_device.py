"""Learning with arrays of another device gives what it gives with numpy's."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert import learning
from convert.device import enough_memory
from convert.errors import Failure
from convert.learning import learn
from convert.model.forward import RENDERS
from tests import tiny
from tests.far import Elsewhere
from tests.rounding.test_rounding_learning import opened, windows

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [name for name in tiny.CONFIGS if tiny.features(name) <= RENDERS]


@pytest.mark.parametrize("name", tiny.cases_of(NAMES, quick=("llama",)))
def test_another_device_learns_the_same(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe(name)))
    text = windows(decoder)
    here = learn(decoder, weights, text, tmp_path / "here")
    monkeypatch.setattr(learning, "find_device", lambda _asked: Elsewhere())
    elsewhere = learn(decoder, weights, text, tmp_path / "elsewhere")
    assert here.factors.keys() == elsewhere.factors.keys() != set()
    for ref, factor in here.factors.items():
        for part, other in zip(factor.parts, elsewhere.factors[ref].parts, strict=True):
            assert (part.order == other.order).all()
            # With few tokens some columns differ by little more than damping, and a last bit matters there.
            apart = np.abs(other.weights / part.weights - 1)
            assert np.median(apart) < 1e-4
            assert apart.max() < 2e-2
            assert np.median(np.abs(other.panels[0] - part.panels[0])) < 1e-4


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = type("OutOfMemoryError", (MemoryError,), {})
    memory = SimpleNamespace(cuda=SimpleNamespace(memory=SimpleNamespace(OutOfMemoryError=fault)))
    monkeypatch.setitem(sys.modules, "cupy", memory)
    with pytest.raises(Failure, match="too small: Out of memory") as caught, enough_memory():
        raise fault("Out of memory allocating 1,073,741,824 bytes\n(allocated so far: 7)")
    assert "\n" not in str(caught.value)

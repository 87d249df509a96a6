"""Learning and rounding on an NVIDIA GPU against the same on the CPU; only where there is one."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from convert.device import why_not
from convert.learning import learn
from convert.model.forward import RENDERS
from convert.rounding import round_rows
from convert.rounding.grid import Grid
from tests import tiny
from tests.rounding.test_rounding import GRIDS, MIDDLE, factor_of, loss, samples
from tests.rounding.test_rounding_learning import opened, windows

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("cupy")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not("cuda")), reason="no NVIDIA GPU")]

NAMES = [name for name in tiny.CONFIGS if tiny.features(name) <= RENDERS]
FP4 = Grid(4, 32, levels=(-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6), is_signed=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_gpu_learns_what_a_cpu_learns(tmp_path: Path, name: str) -> None:
    decoder, weights = opened(tiny.make(tmp_path / "model", tiny.Recipe(name)))
    text = windows(decoder)
    here = learn(decoder, weights, text, tmp_path)
    there = learn(decoder, weights, replace(text, device="cuda"), tmp_path)
    assert str(there.record["device"]).startswith("cuda: ")
    assert here.factors.keys() == there.factors.keys() != set()
    for ref, factor in here.factors.items():
        # How near two diagonals are decides the order: the values in it are compared.
        ours, theirs = factor.importance, there.factors[ref].importance
        assert np.median(np.abs(ours / theirs - 1)) < 1e-3


@pytest.mark.parametrize("grid", [*GRIDS, FP4], ids=[*map(str, GRIDS), "fp4"])
@pytest.mark.parametrize(("rows", "columns"), [(7, 96), (130, 192), (600, 1000)])
def test_a_gpu_rounds_as_a_cpu(grid: Grid, rows: int, columns: int) -> None:
    if grid.group_size and columns % grid.group_size:
        pytest.skip("no whole number of groups")
    weights, hessian = samples(rows, columns)
    factor = factor_of(hessian)
    here, there = (round_rows(weights, grid, each) for each in (factor, replace(factor, device="cuda")))
    # The search sums up in another order, and may take another of two scales that lose as much.
    assert (here.scales.scales == there.scales.scales).mean() > 0.98
    same = (here.scales.scales == there.scales.scales).all(axis=1)
    assert (here.codes[same] == there.codes[same]).mean() > 0.97
    ours, theirs = (loss(weights, hessian, grid, each) for each in (factor, replace(factor, device="cuda")))
    assert theirs == pytest.approx(ours, rel=0.01)


def test_rows_are_rounded_each_on_its_own_there_too() -> None:
    weights, hessian = samples(600, 96)
    factor = replace(factor_of(hessian), device="cuda")
    whole = round_rows(weights, MIDDLE, factor)
    part = round_rows(np.ascontiguousarray(weights[5:530]), MIDDLE, factor)
    assert (part.codes == whole.codes[5:530]).mean() > 0.999

"""The compiled loops of rounding give the numbers that numpy's give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from convert.rounding import Grid, round_rows
from convert.writer.codecs.compensated import KERNEL
from convert.writer.codecs.gptq_words import GptqWords
from convert.writer.codecs.minifloat import E2M1_LEVELS
from tests.rounding.test_rounding import GRIDS, factor_of, samples
from tests.writer.lanes import compiled

pytestmark = pytest.mark.slow
ALL = [
    *GRIDS,
    GptqWords(4, 64).grid,
    Grid(4, 32, levels=E2M1_LEVELS, is_signed=False),
    Grid(4, 16, levels=E2M1_LEVELS),
]


@pytest.fixture(scope="module")
def passes() -> Any:
    return compiled(KERNEL)


# One row, columns that end within a group or a panel, and more rows than go together.
@pytest.mark.parametrize(("rows", "columns"), [(1, 40), (7, 96), (130, 192), (600, 1000)])
@pytest.mark.parametrize("grid", ALL, ids=[str(number) for number in range(len(ALL))])
def test_every_number_is_the_same(rows: int, columns: int, grid: Grid, passes: Any) -> None:
    weights, hessian = samples(rows, columns)
    weights[0, :20] = 0
    weights[-1] *= np.float32(1e-4)
    factor = factor_of(hessian)
    for how in (None, factor):
        here, there = round_rows(weights, grid, how), round_rows(weights, grid, how, passes=passes)
        assert np.array_equal(here.codes, there.codes)
        assert np.array_equal(here.scales.scales, there.scales.scales)
        assert np.array_equal(here.scales.shifts, there.scales.shifts)
    importance = factor.importance
    one = round_rows(weights, grid, importance=importance)
    other = round_rows(weights, grid, importance=importance, passes=passes)
    assert np.array_equal(one.codes, other.codes)

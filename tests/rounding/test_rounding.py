"""GPTQ's rounding against its textbook form, and that it does not depend on how the work is cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

import numpy as np
import pytest

from convert.rounding import Factor, Grid, factorize, find_scales, round_rows
from convert.writer.codecs.compensated import Compensated
from convert.writer.codecs.matmul_nbits import NBits

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIDDLE = Grid(4, 32)
GRIDS = [MIDDLE, Grid(4, 32, "whole"), Grid(4, 0, "free"), Grid(8, 64), Grid(3, 16, is_signed=False)]


def samples(rows: int, columns: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make a matrix, and the Hessian of inputs that depend on each other."""
    random = np.random.default_rng(seed)
    mixing = random.standard_normal((columns, columns)) * random.uniform(0.1, 3, columns)
    inputs = random.standard_normal((2 * columns, columns)) @ (mixing + 2 * np.eye(columns))
    weights = random.standard_normal((rows, columns)).astype(np.float32)
    return weights, (inputs.T @ inputs).astype(np.float32)


def factor_of(hessian: NDArray[np.float32], threads: int = 1) -> Factor:
    with ThreadPoolExecutor(threads) as pool:
        found = factorize(hessian, 0.01, pool)
    assert found is not None
    part, damp = found
    return Factor(f"test {hash(hessian.tobytes())}", damp, (part,))


def loss(
    weights: NDArray[np.float32], hessian: NDArray[np.float32], grid: Grid, factor: Factor | None
) -> float:
    rounded = round_rows(weights, grid, factor)
    spread = rounded.scales.spread(grid, weights.shape[1])
    lost = (weights - spread.decode(rounded.codes.astype(np.float32), grid)).astype(np.float64)
    return float(((lost @ hessian.astype(np.float64)) * lost).sum())


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_later_columns_make_up_for_what_earlier_ones_lose(grid: Grid) -> None:
    weights, hessian = samples(48, 192)
    assert loss(weights, hessian, grid, factor_of(hessian)) < 0.5 * loss(weights, hessian, grid, None)


def test_codes_are_those_of_the_textbook() -> None:
    """Compare with GPTQ as published: by the Cholesky factor of the inverse, in the order of the diagonal."""
    weights, hessian = samples(24, 150)
    grid = Grid(4, 50, "whole")
    factor = factor_of(hessian)
    spread = find_scales(weights, grid, factor.importance).spread(grid, 150)
    damped = hessian.astype(np.float64) + 0.01 * np.diagonal(hessian).mean(dtype=np.float64) * np.eye(150)
    order = np.argsort(np.diagonal(hessian), kind="stable")[::-1]
    upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
    left = weights.astype(np.float64)[:, order]
    codes = np.empty((24, 150), np.uint8)
    for at, column in enumerate(order):
        scale, zero = spread.scales[:, column], spread.shifts[:, column]
        code = np.clip(np.rint(left[:, at] / scale + zero), 0, 15)
        codes[:, column] = code
        error = (left[:, at] - (code - zero) * scale) / upper[at, at]
        left[:, at + 1 :] -= error[:, None] * upper[at, at + 1 :]
    assert (round_rows(weights, grid, factor).codes != codes).mean() < 0.01  # where float32 rounds a half


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_rows_are_rounded_each_on_its_own(grid: Grid) -> None:
    weights, hessian = samples(600, 96)
    factor = factor_of(hessian)
    whole = round_rows(weights, grid, factor)
    for cut in (slice(1, 2), slice(5, 530), slice(333, 600)):
        part = round_rows(np.ascontiguousarray(weights[cut]), grid, factor)
        assert (part.codes == whole.codes[cut]).all()
        assert (part.scales.scales == whole.scales.scales[cut]).all()
        assert (part.scales.shifts == whole.scales.shifts[cut]).all()


def test_factors_do_not_depend_on_threads() -> None:
    _, hessian = samples(1, 600)
    one, three = factor_of(hessian), factor_of(hessian, threads=3)
    for left, right in zip(one.parts[0].panels, three.parts[0].panels, strict=True):
        assert (left == right).all()


def test_a_factor_is_its_hessian() -> None:
    _, hessian = samples(1, 600)
    (part,) = factor_of(hessian).parts
    lower = np.zeros((600, 600))
    for first, panel in zip(range(0, 600, 64), part.panels, strict=True):
        lower[first:, first : first + 64] = panel
    lower += np.eye(600)
    ordered = hessian[np.ix_(part.order, part.order)].astype(np.float64)
    ordered += 0.01 * np.diagonal(hessian).mean(dtype=np.float64) * np.eye(600)
    assert np.abs(lower * part.weights @ lower.T - ordered).max() < 1e-5 * np.abs(ordered).max()


def test_a_factor_says_what_a_change_costs() -> None:
    weights, hessian = samples(3, 150)
    damped = hessian.astype(np.float64) + 0.01 * np.diagonal(hessian).mean(dtype=np.float64) * np.eye(150)
    wanted = float(((weights.astype(np.float64) @ damped) * weights).sum())
    assert factor_of(hessian).cost(weights) == pytest.approx(wanted, rel=1e-4)


def test_what_no_token_reached_is_rounded_to_the_nearest() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert factorize(np.zeros((32, 32), np.float32), 0.01, pool) is None
        assert factorize(np.full((32, 32), np.nan, np.float32), 0.01, pool) is None


def test_searched_scales_lose_less_than_whole_ranges() -> None:
    weights, _ = samples(64, 128)
    found = find_scales(weights, MIDDLE).spread(MIDDLE, 128)
    lost = weights - found.decode(found.encode(weights, MIDDLE), MIDDLE)
    blocks = weights.reshape(-1, 32)
    farthest = np.where(blocks.max(1) > -blocks.min(1), blocks.max(1), blocks.min(1))[:, None] / -8
    plain = blocks - (np.clip(np.rint(blocks / farthest) + 8, 0, 15) - 8) * farthest
    assert (lost**2).sum() < 0.95 * (plain**2).sum()


def test_levels_are_a_grid_too() -> None:
    """Round to FP4's eight magnitudes, whose scale cannot be negative."""
    positive = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
    grid = Grid(4, 16, levels=(*(-each for each in positive[:0:-1]), *positive))
    weights, hessian = samples(32, 96)
    assert loss(weights, hessian, grid, factor_of(hessian)) < 0.6 * loss(weights, hessian, grid, None)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("is_symmetric", [True, False])
def test_blocks_hold_the_codes_that_were_chosen(bits: Literal[4, 8], *, is_symmetric: bool) -> None:
    """Widen what was packed, and compare it with what the codes mean."""
    weights, hessian = samples(16, 80)
    codec = NBits(bits, 32, is_symmetric)
    factor = factor_of(hessian)
    packed, scales, *zeros = Compensated(codec, factor).encode(weights)
    assert [plane.shape[1] for plane in (packed, scales, *zeros)] == [*codec.row_bytes(80)]

    def codes_of(plane: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return plane if bits == 8 else np.stack([plane & 15, plane >> 4], axis=-1).reshape(16, -1)

    shift = np.full((16, 3), codec.grid.middle, np.uint8) if is_symmetric else codes_of(zeros[0])[:, :3]
    wide = (codes_of(packed).astype(np.float32) - np.repeat(shift, 32, axis=1)) * np.repeat(
        scales.view(np.float32), 32, axis=1
    )
    rounded = round_rows(weights, codec.grid, factor)
    meant = rounded.scales.spread(codec.grid, 80).decode(rounded.codes.astype(np.float32), codec.grid)
    assert (wide[:, :80] == meant).all()

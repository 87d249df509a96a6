"""A budget of bytes is spent where it saves most error."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from convert.errors import UsageFailure
from convert.formats.budget import Option, spend


def _menus(random: np.random.Generator, tensors: int = 5) -> dict[str, list[Option]]:
    """Draw tensors of different sizes, whose error falls with each bit as it does for weights."""
    found = {}
    for number in range(tensors):
        weights, counts = int(random.integers(1, 9)) * 256, float(random.gamma(1.0))
        found[f"t{number}"] = [
            Option(f"{bits} bits", weights * bits // 8, counts * 4.0**-bits * float(random.uniform(0.7, 1.4)))
            for bits in range(2, 9)
        ]
    return found


def _size(chosen: dict[str, Option]) -> int:
    return sum(option.size_bytes for option in chosen.values())


def _error(chosen: dict[str, Option]) -> float:
    return sum(option.error for option in chosen.values())


@pytest.mark.parametrize("seed", range(6))
def test_nothing_that_fits_is_much_better(seed: int) -> None:
    menus = _menus(np.random.default_rng(seed), 4)
    sizes = [sum(option.size_bytes for option in each) for each in itertools.product(*menus.values())]
    budget = (min(sizes) * 2 + max(sizes)) // 3
    chosen = spend(menus, budget)
    assert _size(chosen) <= budget
    best = min(
        sum(option.error for option in each)
        for each in itertools.product(*menus.values())
        if sum(option.size_bytes for option in each) <= budget
    )
    # What is left over is less than one step of a tensor.
    assert _error(chosen) <= 1.6 * best


def test_more_bytes_never_cost_more_error() -> None:
    menus = _menus(np.random.default_rng(9), 12)
    least = sum(min(option.size_bytes for option in menu) for menu in menus.values())
    errors = [_error(spend(menus, budget)) for budget in range(least, 3 * least, least // 20)]
    assert errors[0] > 3 * errors[-1]
    assert all(after <= 1.05 * before for before, after in itertools.pairwise(errors))


def test_what_no_price_would_choose_is_never_taken() -> None:
    offered = (("small", 10, 1.0), ("worse", 20, 1.5), ("dent", 30, 0.9), ("large", 40, 0.1))
    menu = [Option(*each) for each in offered]
    names = {spend({"t": menu}, budget)["t"].name for budget in range(10, 60)}
    assert names == {"small", "large"}


def test_the_last_digits_of_an_error_change_nothing() -> None:
    menus = _menus(np.random.default_rng(3), 40)
    moved = {
        name: [Option(each.name, each.size_bytes, each.error * (1 + 1e-12)) for each in menu]
        for name, menu in menus.items()
    }
    assert {name: option.name for name, option in spend(menus, 60_000).items()} == {
        name: option.name for name, option in spend(moved, 60_000).items()
    }


def test_a_budget_that_nothing_fits_into_is_refused() -> None:
    with pytest.raises(UsageFailure, match="are too few: the coarsest types take"):
        spend(_menus(np.random.default_rng(1)), 100)

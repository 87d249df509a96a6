"""A short sweep of each kind; `make faults` is the long one."""

from __future__ import annotations

import pytest

from tests.faults.kinds import KINDS
from tests.faults.sweep import sweep


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_no_mutant_is_more_than_one_line(name: str) -> None:
    assert sweep(name, 60, seed=1) == []

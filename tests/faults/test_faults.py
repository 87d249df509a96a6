"""A short sweep of each kind; `make faults` is the long one."""

from __future__ import annotations

import pytest

from tests.faults.guided import SEEDS, fuzz
from tests.faults.kinds import KINDS
from tests.faults.sweep import sweep


@pytest.mark.slow
def test_no_mutant_is_more_than_one_line() -> None:
    assert sweep(list(KINDS), 60, seed=1) == []


@pytest.mark.slow
def test_a_defect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that could find nothing would prove nothing: a reader that is left open is one."""
    monkeypatch.setenv("FAULTS_OPEN_READER", "imatrix")
    defects = sweep(["imatrix"], 40, seed=1)
    assert any("in kinds.py" in line for line in defects)


@pytest.mark.slow
@pytest.mark.parametrize("is_open", [False, True], ids=["ours", "left open"])
def test_a_fuzzer_that_follows_coverage_finds_what_there_is(
    monkeypatch: pytest.MonkeyPatch, *, is_open: bool
) -> None:
    pytest.importorskip("atheris")
    if is_open:
        monkeypatch.setenv("FAULTS_OPEN_READER", "imatrix")
    found = fuzz("imatrix", 5)
    assert found.inputs > SEEDS
    assert bool(found.defects) == is_open, found.defects
    assert is_open or found.edges > 50

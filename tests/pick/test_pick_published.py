"""The estimate is within a tenth of what was published of a model on one A100."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pick.published import PUBLISHED, estimates, holds

PAGE = Path(__file__).parents[2] / "docs" / "choosing.md"


@pytest.mark.parametrize("target", PUBLISHED)
def test_the_estimate_is_within_a_tenth_of_what_was_published(target: str) -> None:
    _, *published = PUBLISHED[target]
    for found, said in zip(estimates(target), published, strict=True):
        assert abs(found / said - 1) <= holds().error.value <= 0.1, f"{found:.2f} for {said}"

"""A test whose name may differ between processes is refused where it is collected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests import conftest


@pytest.mark.parametrize(
    ("name", "is_fit"),
    [
        ("test_a[two words-3]", True),
        ("test_a[\\x1f\\x8b]", False),  # as pytest spells bytes
        ("test_a[<function f at 0x7f2c>]", False),
        (f"test_a[{'x' * 90}-{'y' * 90}]", False),
    ],
    ids=["words", "bytes", "an address", "too long"],
)
def test_a_name_made_of_content_is_refused(name: str, *, is_fit: bool) -> None:
    collecting = conftest.pytest_pycollect_makeitem()
    next(collecting)
    made = [SimpleNamespace(name="test_a"), SimpleNamespace(name=name)]
    if is_fit:
        with pytest.raises(StopIteration) as ended:
            collecting.send(made)
        assert ended.value.value is made
    else:
        with pytest.raises(pytest.Collector.CollectError, match="give these parameters an id="):
            collecting.send(made)

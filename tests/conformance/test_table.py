"""The page of families and formats is what the families' files say."""

from __future__ import annotations

from pathlib import Path

from tests.conformance.table import page

PAGE = Path(__file__).resolve().parents[2] / "docs" / "families.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text("utf-8") == page(), "python -m tests.conformance.table docs/families.md"

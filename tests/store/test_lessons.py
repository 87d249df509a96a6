"""What several conversions of one source learn in one folder, which the last of them removes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.store.lessons import held

if TYPE_CHECKING:
    from pathlib import Path


def test_the_last_removes_it(tmp_path: Path) -> None:
    folder = tmp_path / ".lessons" / "source"
    with held(folder) as first, held(folder):
        folder.mkdir()
        first()
        assert folder.is_dir()  # the second reads in it
    with held(folder) as third:
        assert folder.is_dir()
        third()
    assert not folder.parent.exists()


def test_one_that_failed_leaves_it_for_the_next(tmp_path: Path) -> None:
    folder = tmp_path / ".lessons" / "source"
    with held(folder):
        folder.mkdir()
    assert folder.is_dir()

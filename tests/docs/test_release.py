"""A release is made of the changes that are there, once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.docs.release import ROOT, fragments, notes, release

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('a = 1\nfallback_version = "0.9.0"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\n## 0.9.0 (2026-01-01)\n- old\n")
    (tmp_path / "changes").mkdir()
    for name, text in {"README": "# What", "oci": "- b\n- c\n", "fleet": "- a"}.items():
        (tmp_path / "changes" / f"{name}.md").write_text(text)
    return tmp_path


def test_changes_become_a_version(project: Path) -> None:
    release(project, "0.10.0", "2026-02-03")
    log = (project / "CHANGELOG.md").read_text()
    assert log.startswith("# Changelog\n\n## Unreleased\n\n## 0.10.0 (2026-02-03)\n- a\n- b\n- c\n")
    assert notes(log, "0.10.0") == "- a\n- b\n- c"
    assert (notes(log, "0.9.0"), notes(log, "Unreleased"), notes(log, "0.1")) == ("- old", "", "")
    assert 'fallback_version = "0.10.0"' in (project / "pyproject.toml").read_text()
    assert fragments(project) == []
    with pytest.raises(SystemExit, match="nothing changed"):
        release(project, "0.11.0", "2026-02-04")


@pytest.mark.parametrize("version", ["0.9.0", "0.8.9", "v1.0.0", "1.0", ""])
def test_what_is_no_later_version_changes_nothing(project: Path, version: str) -> None:
    with pytest.raises(SystemExit, match="no version after"):
        release(project, version, "2026-02-03")
    assert len(fragments(project)) == 2


def test_every_change_here_can_be_taken() -> None:
    for path in fragments(ROOT):
        assert path.read_text("utf-8").startswith("- "), path

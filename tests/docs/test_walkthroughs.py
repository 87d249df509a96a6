"""Each walk-through of CONTRIBUTING.md is followed to the letter in a copy of the project."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.docs.parts import ROOT
from tests.docs.walkthrough import walk

if TYPE_CHECKING:
    from pathlib import Path

# What a clone has, as far as the walk-throughs need it.
COPIED = ("convert", "verify", "tests", "recipes", "docs")
BEFORE = {"A model family": "convert/model/families/seed_oss.py"}


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Copy the project, with an environment of its own that shares this one's packages."""
    for name in COPIED:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.md"), *ROOT.glob("*.yml"), ROOT / "pyproject.toml", ROOT / "Makefile"):
        shutil.copy(file, tmp_path)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    for name, module in (("python", ""), ("modelwright", "-m convert.cli")):
        program = tmp_path / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {module} "$@"\n', "utf-8")
        program.chmod(0o755)
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("title", ["A model family", "A format", "A runtime", "A scenario"])
def test_a_newcomer_gets_there(clone: Path, title: str) -> None:
    found = walk(title)
    assert found.files
    assert found.commands
    if title in BEFORE:
        (clone / BEFORE[title]).unlink()
    for path, text in found.files.items():
        assert not (clone / path).exists(), path
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).write_text(text, "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(clone), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        ["/bin/sh", "-ec", found.commands],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

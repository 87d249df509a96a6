"""An artifact may be a stranger's: what its manifest says is shown, and does nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests import tiny
from tests.hf.describing import convert_to, make

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

ACTS = "x\x1b[2J\x1b]0;y\x07\r\nz"
SHOWN = r"x\x1b[2J\x1b]0;y\x07\r z"
OTHERWISE = {"subject": ACTS, "wanted": ACTS, "got": ACTS, "why": ACTS}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("artifact")
    return convert_to(place, make(place / "source", tiny.Recipe("gpt2")), "hf: {}") / "hf"


def test_a_strangers_folder_does_nothing_to_a_terminal(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "x\x1b[2J" / "y\r\x07"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{")
    ran = run("list", "--out", tmp_path)
    assert r"x\x1b[2J" in ran.out
    assert all(line.isprintable() for line in ran.out.splitlines())


def test_a_strangers_words_do_nothing_to_a_terminal(run: Run, artifact: Path) -> None:
    path = artifact / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    manifest |= {"target": ACTS, "license": ACTS, "tools": {ACTS: ACTS}, "deviations": [OTHERWISE]}
    manifest["source"]["repo"] = ACTS
    manifest["tensors"]["wte"] = ACTS
    manifest["files"].append({"path": f"zz{ACTS}", "size_bytes": 1, "sha256": "0" * 64})
    path.write_text(json.dumps(manifest), "utf-8")
    ran = run("inspect", artifact)
    assert ran.code == 1
    assert all(line.isprintable() for line in ran.out.splitlines())
    # Target, source, licence, tensors, tools (2), a file in the table and as missing, a deviation (4).
    assert ran.out.count(SHOWN) == 12

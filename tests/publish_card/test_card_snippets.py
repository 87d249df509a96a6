"""The programs on a card run as they stand there, from a Hub that has the repo."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.hub.server import HubServer

if TYPE_CHECKING:
    from pathlib import Path

    from tests.publish_card.cards import Artifacts, Card

pytestmark = pytest.mark.slow


def run(card: Card, cache: Path) -> dict[str, str]:
    """What each program prints, by its first line."""
    files = {file.path: file.read() for file in card.bundle.files} | dict(card.made)
    printed = {}
    with HubServer() as hub:
        hub.add(card.bundle.repo, files)
        told = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
        for program in card.blocks("python"):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-c", program],
                env={**os.environ, **told},
                capture_output=True,
                text=True,
                timeout=500,
                check=False,
            )
            assert done.returncode == 0, f"{program}\n{done.stderr[-3000:]}"
            printed[program.splitlines()[0]] = done.stdout
    return printed


@pytest.mark.parametrize("model", ["qwen", "gpt2"])
@pytest.mark.parametrize("target", ["gguf-Q8_0", "onnx-fp32-cpu", "hf"])
def test_programs_run_as_they_stand(artifacts: Artifacts, tmp_path: Path, target: str, model: str) -> None:
    printed = run(artifacts.card(artifacts.candidate(target, model)), tmp_path / "cache")
    assert printed
    for first, text in printed.items():
        assert text.strip(), first


def test_a_folder_of_a_repo_runs(artifacts: Artifacts, tmp_path: Path) -> None:
    card = artifacts.card(artifacts.candidate("onnx-int4-cpu"), artifacts.candidate("onnx-fp32-cpu"))
    assert all(text.strip() for text in run(card, tmp_path / "cache").values())

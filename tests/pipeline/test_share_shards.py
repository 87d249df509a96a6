"""A part of a conversion downloads the shards that it reads, and an assembly none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import tiny
from tests.hf import describing
from tests.hub.server import HubServer

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "owner/sharded"
TARGETS = "targets: {gguf: {quants: [Q8_0]}, hf: {}}\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubServer]:
    folder = describing.make(tmp_path / "source", tiny.Recipe("qwen2", shards=4))
    with HubServer() as server:
        server.add(NAME, {path.name: path.read_bytes() for path in folder.iterdir()})
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.mark.slow
def test_a_part_downloads_what_it_reads(hub: HubServer, tmp_path: Path) -> None:
    (tmp_path / "m.yaml").write_text(f"model: {NAME}\n{TARGETS}", "utf-8")

    def run(verb: str, *words: str, home: str) -> set[str]:
        """Run as a machine of its own would; name the shards that it has then."""
        environment = {
            **os.environ,
            "HOME": str(tmp_path / home),
            "HF_ENDPOINT": hub.endpoint,
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        command = [sys.executable, "-m", "convert.cli", verb, "m.yaml", *words, "--quiet"]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        found = (tmp_path / home).rglob("snapshots/*/*.safetensors")
        return {path.name for path in found}

    shards = run("convert", "--out", "whole", home="whole")
    assert len(shards) == 4
    parts = [run("convert", "--part", f"{number}/4", home=f"home{number}") for number in range(1, 5)]
    assert set().union(*parts) == shards
    assert all(len(part) < len(shards) for part in parts), parts
    assert run("assemble", home="last") == set()
    assert contents(tmp_path / "artifacts" / "m") == contents(tmp_path / "whole" / "m")

"""The GitHub action and the workflows: well-formed, and the action hands on the exit code and the report."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.docs.parts import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FILES = [ROOT / "action.yml", *(ROOT / ".github").rglob("*.yml")]


@pytest.mark.parametrize("path", [pytest.param(path, id=path.name) for path in FILES])
def test_files_of_github_are_yaml(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text("utf-8")), dict)


def _step() -> dict[str, Any]:
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    return next(step for step in action["runs"]["steps"] if step.get("id") == "modelwright")


@pytest.mark.parametrize("code", [0, 3])
def test_the_action_hands_on_exit_code_and_report(tmp_path: Path, code: int) -> None:
    program = tmp_path / "modelwright"
    program.write_text(
        '#!/bin/sh\nprintf "%s|" "$@" > asked\nmkdir -p artifacts/m\necho "# m" > artifacts/m/report.md\n'
        f"exit {code}\n"
    )
    program.chmod(0o755)
    given = {"RECIPE": "a b.yaml", "COMMAND": "verify", "ARGUMENTS": "--only gguf --threads 2"}
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "summary")}
    environment = {**os.environ, **given, **files, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["/bin/bash", "-c", _step()["run"]], cwd=tmp_path, env=environment, check=False)
    assert set(_step()["env"]) == set(given)
    assert done.returncode == code
    assert (tmp_path / "asked").read_text() == "verify|a b.yaml|--only|gguf|--threads|2|"
    assert (tmp_path / "output").read_text() == f"exit-code={code}\n"
    assert (tmp_path / "summary").read_text() == "# m\n"

"""The public API is what docs/api.md says, and its example runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import convert
import verify
from tests import api_example

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs" / "api.md").read_text("utf-8")


def test_the_example_in_the_docs_is_the_one_that_is_checked() -> None:
    example = (ROOT / "tests" / "api_example.py").read_text("utf-8")
    assert DOCS.count(f"```python\n{example}```") == 1


@pytest.mark.slow
def test_the_example_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert api_example.main(tmp_path)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("models/tiny-qwen (qwen2): ")
    assert printed[1:] == [f"gguf-Q8_0: built in {tmp_path / 'tiny' / 'gguf-Q8_0'}"]


def test_what_fails_is_a_failure_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(convert.Failure, match="no such target") as failed:
        convert.plan_recipe(convert.load_recipe("tiny"), out=tmp_path, only=["nonesuch"])
    assert failed.value.hint.startswith("it has: ")
    assert failed.value.exit_code == convert.Exit.USAGE


@pytest.mark.parametrize("package", [convert, verify])
def test_every_name_that_is_exported_is_there(package: object) -> None:
    for name in vars(package)["_PLACES"]:
        assert getattr(package, name)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = package.nonesuch  # type: ignore[attr-defined]


def test_to_import_it_costs_nothing() -> None:
    script = (
        "import sys, convert, verify\n"
        "print([name for name in ('pydantic', 'numpy', 'torch', 'huggingface_hub') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"

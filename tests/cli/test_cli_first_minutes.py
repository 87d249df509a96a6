"""The first minutes: a model without a recipe, names as people type them, and the next command."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.errors import UsageFailure
from convert.formats import load_recipe, option_models, recipe_for
from convert.recipe import choose, find
from convert.recipe.shorthand import read_targets, spell

if TYPE_CHECKING:
    from tests.cli.conftest import Run

ROOT = Path(__file__).parents[2]
TINY = ROOT / "recipes" / "models" / "tiny-qwen"


def test_a_model_is_converted_without_a_recipe(run: Run, tmp_path: Path) -> None:
    ran = run("convert", str(TINY), "--to", "gguf:q8_0", "--out", str(tmp_path))
    assert (tmp_path / "tiny-qwen" / "gguf-Q8_0" / "manifest.json").is_file()
    last = ran.out.splitlines()[-1]
    assert last == f"next: modelwright verify {tmp_path}/tiny-qwen/gguf-Q8_0 --source {TINY}"


def test_a_recipe_ends_with_its_own_next_command(run: Run, tmp_path: Path) -> None:
    ran = run("convert", "tiny", "--only", "Q8_0", "--out", str(tmp_path))
    assert ran.out.splitlines()[-1] == f"next: modelwright verify tiny --only Q8_0 --out {tmp_path}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("gguf:Q4_K_M,onnx", {"gguf": {"quants": ["Q4_K_M"]}, "onnx": {"precision": ["int4"]}}),
        ("gguf", {"gguf": {"quants": ["Q4_K_M"]}}),
        ("gguf:Q8_0, GGUF:Q4_0", {"gguf": {"quants": ["Q8_0", "Q4_0"]}}),
        ("gptq:8,hf", {"gptq": {"bits": 8}, "hf": {}}),
    ],
)
def test_targets_in_short(text: str, found: dict[str, object]) -> None:
    assert read_targets(text, option_models()) == found


@pytest.mark.parametrize(
    ("text", "what"),
    [("ggfu:Q8_0", "did you mean gguf?"), ("", "gguf:Q4_K_M"), ("gptq:4,gptq:8", "one recipe builds one")],
)
def test_targets_that_mean_nothing(text: str, what: str) -> None:
    with pytest.raises(UsageFailure) as raised:
        read_targets(text, option_models())
    assert what in raised.value.hint


def test_what_is_made_in_short_reads_as_a_recipe() -> None:
    recipe = recipe_for("Owner/Model-7B", "gguf:q4_k_m,onnx:INT8,awq")
    names = [each.name for each in choose(recipe)]
    assert names == ["awq", "gguf-Q4_K_M", "onnx-int8-cpu"]
    assert recipe.name == "model-7b"
    assert recipe.calibration is not None
    assert [spell(name, option_models()) for name in names] == ["awq", "gguf:Q4_K_M", "onnx:int8"]


@pytest.mark.parametrize(
    "targets", ["gguf: {quants: [q4_k_m]}", "gguf: [Q4_K_M]", "gguf: q4_K_m", "gguf: {quants: [Q4_K_M]}"]
)
def test_names_are_taken_for_what_they_can_only_mean(tmp_path: Path, targets: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"model: Owner/Model\ntargets:\n  {targets}\n  onnx: int4\n", "utf-8")
    recipe = load_recipe(path)
    assert [each.name for each in choose(recipe, ["q4_k_m"])] == ["gguf-Q4_K_M"]
    assert [each.name for each in choose(recipe, ["ONNX"])] == ["onnx-int4-cpu"]
    with pytest.raises(UsageFailure, match="no such target"):
        choose(recipe, ["q4"])


def test_a_wrong_name_in_short_is_still_refused_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model: Owner/Model\ntargets:\n  gguf: [Q4_K_X]\n", "utf-8")
    with pytest.raises(UsageFailure, match=r"mine.yaml:3: targets.gguf.*'Q4_K_X' is not known"):
        load_recipe(path)


def test_a_recipe_is_found_without_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    assert find("recipes/mine") == Path("recipes/mine.yaml")
    assert find("recipes/gpt2") == ROOT / "recipes" / "gpt2.yaml"
    assert find(tmp_path / "recipes" / "mine") == tmp_path / "recipes" / "mine.yaml"
    with pytest.raises(UsageFailure) as raised:
        find("Owner/Model")
    assert "--to gguf:Q4_K_M" in raised.value.hint


def test_init_writes_a_recipe_that_is_read(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("init", "Owner/My-Model", "--to", "gguf:Q5_K_M")
    path = tmp_path / "my-model.yaml"
    assert ran.out.splitlines() == ["my-model.yaml: written", "next: modelwright plan my-model.yaml"]
    text = path.read_text("utf-8")
    assert text.startswith("# yaml-language-server: $schema=schema.json\n# ")
    assert json.loads((tmp_path / "schema.json").read_text("utf-8"))["$schema"]
    assert [each.name for each in choose(load_recipe(path))] == ["gguf-Q5_K_M"]
    again = run("init", "Owner/My-Model")
    assert again.code == 2
    assert "there is a recipe of that name" in again.err
    assert path.read_text("utf-8") == text


def test_init_refuses_what_is_no_model(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = run("init", "no model")
    assert ran.code == 2
    assert "is neither a Hub repo nor a folder" in ran.err
    assert not list(tmp_path.iterdir())


def test_help_is_a_command(run: Run) -> None:
    assert run("help", "pick").out == run("pick", "--help").out
    assert "Usage: modelwright" in run("help").out


def test_make_says_that_a_name_is_wrong_before_it_installs() -> None:
    done = subprocess.run(
        ["make", "--dry-run", "-s", "named", "MODEL=typo"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    done = subprocess.run(
        ["make", "-s", "named", "MODEL=typo"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "error: no recipe is called typo" in done.stderr
    for name in ("tiny", "recipes/tiny", "recipes/tiny.yaml"):
        fine = subprocess.run(
            ["make", "-s", "named", f"MODEL={name}"], cwd=ROOT, capture_output=True, check=False
        )
        assert fine.returncode == 0
    order = subprocess.run(
        ["make", "--dry-run", "convert"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout
    assert order.index("no recipe is called") < order.index("modelwright convert")

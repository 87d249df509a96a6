"""`modelwright pick` on the command line: answers, exit codes, reports, and the recipe that it writes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.cli import app
from convert.formats import load_recipe
from convert.pick import data
from convert.pick.profile import here
from convert.recipe import choose
from convert.store import MANIFEST_NAME
from tests.verify.reports import artifact, report
from verify.report import NAME as REPORT
from verify.report import others, write_json

if TYPE_CHECKING:
    from pathlib import Path

LAPTOP = ("--on", "laptop-8gb", "--context", "2k")


def pick(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = app.run(["pick", *map(str, args)])
    captured = capsys.readouterr()
    return int(code), captured.out, captured.err


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A report by which eight bits passed and four did not."""
    path = tmp_path / "report.json"
    found = (artifact("gguf-Q8_0"), artifact("gguf-Q4_K_M", passed=False))
    write_json(path, report(*found, recipe="qwen2.5-0.5b"))
    return path


def test_a_report_brings_measured_figures_and_what_failed_is_no_answer(
    reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = pick(capsys, reported, *LAPTOP, "--goal", "size", "--json")
    assert code == 0
    found = json.loads(out)
    answer = found["answer"]
    assert (answer["target"], answer["state"], answer["build"]) == ("gguf-Q8_0", "passed", None)
    assert (answer["memory_is"], answer["total_bytes"]) == ("measured", 1_500_000_000)
    assert answer["speed_is"] == "estimated"  # the report is of another machine
    assert (answer["kl"], answer["report"]) == (0.004, str(reported))
    (failed,) = (each for each in found["candidates"] if each["target"] == "gguf-Q4_K_M")
    assert failed["why_not"] == "failed: kl_mean, smoke_drop"


def test_figures_are_marked_by_where_they_are_from(
    reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = pick(capsys, reported, *LAPTOP)
    assert code == 0
    (row,) = (line for line in out.splitlines() if line.startswith("qwen2.5-0.5b gguf-Q8_0"))
    assert "0.004" in row
    assert "0.004 ~" not in row
    assert " ~" in row  # its speed
    assert "failed: kl_mean" in out
    assert "modelwright verify" not in out


def test_a_longer_text_than_was_measured_is_estimated(
    reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = pick(capsys, reported, "--on", "laptop-8gb", "--context", "8k", "--json")
    assert json.loads(out)["answer"]["memory_is"] == "estimated"


def test_where_all_failed_there_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "report.json"
    write_json(path, report(artifact("gguf-Q8_0", passed=False), recipe="qwen2.5-0.5b"))
    code, out, _ = pick(capsys, path, *LAPTOP)
    assert code == 3
    assert "every candidate has failed its verification" in out


def test_what_fails_on_one_class_of_nodes_is_no_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, home = tmp_path / "m.yaml", tmp_path / "artifacts" / "m"
    targets = "targets: {gguf: {quants: [Q8_0, Q4_K_M]}}\nverify: {on: [cpu-a, gpu-b]}\n"
    recipe.write_text(f"model: Qwen/Qwen2.5-0.5B-Instruct\n{targets}", "utf-8")
    for folder, failing in ((home, None), (home / "reports" / "gpu-b", "gguf-Q8_0")):
        found = []
        for name in ("gguf-Q8_0", "gguf-Q4_K_M"):
            (home / name).mkdir(parents=True, exist_ok=True)
            (home / name / MANIFEST_NAME).write_text("{}")
            digest = hashlib.sha256(b"{}").hexdigest()
            result = artifact(name, passed=name != failing)
            found.append(result.model_copy(update={"manifest_sha256": digest}))
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / REPORT, report(*found, recipe="m"))
    code, out, _ = pick(capsys, recipe, "--out", home.parent, *LAPTOP, "--json")
    answer = json.loads(out)
    assert (code, answer["answer"]["target"]) == (0, "gguf-Q4_K_M")
    (failed,) = (each for each in answer["candidates"] if each["target"] == "gguf-Q8_0")
    assert failed["why_not"] == "failed: kl_mean, smoke_drop"
    assert [each.recipe for each in others(home).values()] == ["m on gpu-b"]


def test_a_measured_divergence_is_held_to_the_limit(
    reported: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = pick(capsys, reported, *LAPTOP, "--max-kl", "0.003")
    assert code == 3
    assert "KL 0.004" in out


def test_nothing_fits_is_exit_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = pick(capsys, "qwen2.5-7b", *LAPTOP, "--ram", "4GB")
    assert code == 3
    assert "what would have to give" in out
    assert max(map(len, out.splitlines()[:4])) < 110


def test_the_recipe_of_the_answer_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    code, _, err = pick(capsys, "qwen2.5-0.5b", *LAPTOP, "--goal", "size", "--write", path)
    assert code == 0
    assert f"modelwright run {path}" in err
    recipe = load_recipe(path)
    assert recipe.model == "Qwen/Qwen2.5-0.5B-Instruct"
    assert [each.name for each in choose(recipe)] == ["gguf-Q4_K_M"]


def test_a_model_needs_no_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = pick(capsys, "Qwen/Qwen2.5-0.5B-Instruct", *LAPTOP, "--json")
    assert code == 0
    assert json.loads(out)["answer"]["build"] == "modelwright run Qwen/Qwen2.5-0.5B-Instruct --to gguf:Q8_0"


@pytest.mark.parametrize(
    ("args", "what"),
    [
        (["--on", "lptop-8gb"], "did you mean laptop-8gb?"),
        (["--on", "laptop-8gb", "--context", "long"], "--context long: is no number of tokens"),
        (["--on", "laptop-8gb", "--ram", "much"], "--ram much: is no size"),
        (["--on", "laptop-8gb", "--gpus", "2"], "add --vram 24GB"),
        (["--on", "laptop-8gb", "--runtime", "olama"], "did you mean ollama?"),
        (["--on", "laptop-8gb", "--runtime", "vllm"], "is not for windows"),
    ],
)
def test_what_is_wrong_is_said_by_name(
    args: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = pick(capsys, "qwen2.5-0.5b", *args)
    assert code in (2, 3)
    assert what in out + err


def test_people_add_their_own_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    own = data.own_folder("profiles")
    own.mkdir(parents=True)
    text = (data.SHIPPED / "profiles" / "laptop-8gb.yaml").read_text("utf-8")
    (own / "mine.yaml").write_text(text.replace("value: 8,", "value: 80,"), "utf-8")
    assert pick(capsys, "qwen2.5-0.5b", "--on", "mine")[1].startswith("80.0 GB")
    (own / "mine.yaml").write_text(text.replace('source: "as sold"', 'source: ""'), "utf-8")
    code, _, err = pick(capsys, "qwen2.5-0.5b", "--on", "mine")
    assert code == 2
    assert "mine.yaml:5: ram_gb.source" in err


def test_here_is_this_machine() -> None:
    found = here()
    assert found.cores >= 1
    assert found.room_bytes > 0
    assert 0 < found.bandwidth < 5e12
    assert replace(found, gpus=0, gpu=None).room_bytes == found.room_bytes

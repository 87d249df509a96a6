"""What a person is told to type next does what it says."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.cli import verdict
from convert.errors import Failure
from convert.formats import load_recipe
from convert.formats.gguf.options import Quant
from convert.publish.remedy import remedy
from convert.recipe import known_recipes
from convert.store import REBUILT
from tests.verify import planting, reports
from verify.gates import Check
from verify.scope import Part, Scope

if TYPE_CHECKING:
    from tests.cli.conftest import Run
    from verify.report import ArtifactResult

RECIPE = "model: {model}\ntargets: {{gguf: {{quants: [Q8_0]}}}}\n"
ARTIFACT = Path("artifacts", "a recipe", "gguf-Q8_0")


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe that lies in no recipes/, under a name with a space."""
    planting.make_source(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    path = Path("a recipe.yaml")
    path.write_text(RECIPE.format(model="model"), "utf-8")
    return path


def test_what_is_not_built_yet_is_built_by_what_the_hint_says(run: Run, recipe: Path) -> None:
    ran = run("verify", recipe)
    assert (ran.code, ran.err.splitlines()[0]) == (1, "error: gguf-Q8_0: not built yet")
    hint = ran.err.splitlines()[1].removeprefix("hint:  modelwright ").partition(", or")[0]
    assert run(*shlex.split(hint), "--quiet").code == 0
    assert (ARTIFACT / "manifest.json").is_file()


def test_a_recipe_that_has_a_name_is_called_by_it(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "tiny" in known_recipes()
    assert "modelwright convert tiny, or" in run("verify", "tiny", "--only", "gguf-Q8_0").err


def test_a_flipped_byte_is_told_with_how_it_is_mended(run: Run, recipe: Path) -> None:
    run("convert", recipe, "--quiet")
    file = next(ARTIFACT.glob("*.gguf"))
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 4]))
    ran = run("inspect", ARTIFACT, "--verify")
    assert (ran.code, "sha256 differs" in ran.out) == (1, True)
    assert "remove the artifact's folder and convert again" in ran.out
    assert "up to date" in run("convert", recipe).out
    for path in ARTIFACT.iterdir():
        path.unlink()
    ARTIFACT.rmdir()
    assert "built" in run("convert", recipe).out
    assert run("inspect", ARTIFACT, "--verify").code == 0


def test_a_verdict_of_damage_says_how_it_is_mended() -> None:
    flipped = Check("digests", 1, 0, passed=False, why="m.gguf: sha256 differs; it is not opened")
    damaged = reports.artifact("gguf-Q8_0").model_copy(update={"checks": (flipped,)})
    assert REBUILT in verdict.lines(reports.report(damaged))
    assert REBUILT not in verdict.lines(reports.report())
    unread = Check("digests", None, 0, passed=False, why="m.gguf: no permission; it is not opened")
    out_of_reach = reports.artifact("gguf-Q8_0").model_copy(update={"checks": (unread,)})
    assert REBUILT not in verdict.lines(reports.report(out_of_reach))


RECIPE_OF_ALL = """\
model: Owner/Model
targets:
  gguf: {quants: [Q4_K_M, Q2_K, Q8_0, F16, IQ4_XS]}
  onnx: {precision: [int4, fp32], block_size: 128}
  gptq: {bits: 4}
  awq: {}
calibration: {packs: [searchqa]}
"""


@pytest.mark.parametrize(
    ("gate", "target", "said"),
    [
        ("kl_mean", "gguf-Q4_K_M", "take Q5_K_M, or an importance matrix (imatrix: calibration); or leave"),
        ("top1", "gguf-Q2_K", "take Q3_K_M, or an importance matrix"),
        ("top1", "gguf-IQ4_XS", "take Q4_K_M, or"),
        ("smoke_drop", "gguf-Q8_0", "take F16; or leave it out with --only; last of all, waive it"),
        ("top1", "gguf-F16", "take BF16 where"),
        ("ppl_ratio", "onnx-int4-cpu", "take precision: int8, or block_size: 32, or head: int8; or"),
        ("ppl_ratio", "onnx-fp32-cpu", "take a type with more bits; or"),
        ("kl_p99", "gptq", "take bits: 8; or"),
        ("kl_p99", "awq", "take group_size: 32, or more calibration samples; or"),
        ("size_bytes", "gguf-Q8_0", "take a type with fewer bits; or"),
        ("decode_tok_s", "gptq", "verify again on an idle machine, or take a type with fewer bits; or"),
    ],
)
def test_a_failed_gate_is_mended_first_and_waived_last(
    gate: str, target: str, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(RECIPE_OF_ALL, "utf-8")
    found = remedy(gate, target, load_recipe(path))
    assert found.startswith(said)
    assert found.endswith(f"waive it: publish: {{waive: [{{gate: {gate}, target: {target}, reason: …}}]}}")
    assert "waive" not in remedy(gate, target)


def test_every_type_of_gguf_has_a_better_one(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(f"model: Owner/Model\ntargets: {{gguf: {{quants: [{', '.join(Quant)}]}}}}\n", "utf-8")
    options = load_recipe(path).targets["gguf"]
    assert all(options.closer(f"gguf-{each}") for each in Quant)


def test_the_verdict_has_a_hint_for_each_artifact_that_failed() -> None:
    lost = Check("kl_mean", 1.7, 0.1, passed=False, why="its KL divergence is 1.7 nats")
    slow = Check("load_s", 9.0, 1.0, passed=False, why="it loads in 9 s")
    failed = reports.artifact("gguf-Q8_0").model_copy(update={"checks": (slow, lost)})
    found = list(verdict.lines(reports.report(failed, reports.artifact("gguf-F16"))))
    assert [line for line in found if line.startswith("hint: ")] == [
        "hint: gguf-Q8_0: take a type with more bits"
    ]


def test_a_time_without_room_for_a_dialogue_says_what_to_do() -> None:
    lacking = reports.artifact("hf").model_copy(update={"unmeasured": ("smoke_drop",)})
    asked = Scope(120.0, 150.0, 160.0, Part(0, 38), Part(2, 8), Part(1, 6))

    def hints(artifact: ArtifactResult, scope: Scope) -> list[str]:
        made = reports.report(artifact).model_copy(update={"scope": scope})
        return [line for line in verdict.lines(made) if line.startswith("hint: ")]

    hint = "hint: no dialogue fits into the time: give it more with --budget"
    assert hints(lacking, asked) == [f"{hint}, or leave speed out: --only-quality"]
    assert hints(lacking, replace(asked, repetitions=Part(0, 0))) == [hint]
    assert hints(lacking, replace(asked, dialogues=Part(1, 38))) == []
    assert hints(reports.artifact("hf"), asked) == []


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("./none", "relative to the recipe's folder, /"),
        ("/none/such", "hint:  check the path;"),
        (
            "~nobody-knows/x",
            "there is no folder ~nobody-knows/x\nhint:  check the path;",
        ),
    ],
    ids=["relative", "absolute", "of a user whom nobody knows"],
)
def test_a_model_that_is_not_there(run: Run, recipe: Path, model: str, hint: str) -> None:
    recipe.write_text(RECIPE.format(model=model), "utf-8")
    ran = run("plan", recipe)
    assert (ran.code, hint in ran.err) == (2, True), ran.err


@pytest.mark.parametrize(
    ("rest", "fault"),
    [
        ("calibration: {text: ~nobody-knows/x.txt}", "there is no file ~nobody-knows/x.txt"),
        ("verify: {text: ~nobody-knows/x.txt}", "there is no file ~nobody-knows/x.txt"),
        ("verify: {scenarios: [~nobody-knows/x.yaml]}", "there is no file ~nobody-knows/x.yaml"),
    ],
    ids=["calibration", "text", "scenarios"],
)
def test_a_home_that_nobody_knows_is_a_fault_of_the_recipe(
    run: Run, recipe: Path, rest: str, fault: str
) -> None:
    recipe.write_text(RECIPE.format(model="model") + rest, "utf-8")
    ran = run("plan", recipe)
    assert (ran.code, fault in ran.err) == (2, True), ran.err


@pytest.mark.parametrize(
    ("option", "value"), [("--source", "~nobody-knows/x"), ("--scenarios", "~nobody-knows/x.yaml")]
)
def test_a_home_that_nobody_knows_on_the_command_line(
    run: Run, recipe: Path, option: str, value: str
) -> None:
    run("convert", recipe, "--quiet")
    ran = run("verify", ARTIFACT if option == "--source" else recipe, option, value)
    assert (ran.code, value in ran.err, "bug" in ran.err) == (2, True, False), ran.err


def test_a_recipe_that_cannot_be_read_is_a_fault_of_the_recipe(
    run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refused)  # root may read everything
    ran = run("plan", recipe)
    said = "error: a recipe.yaml: cannot be read: permission denied\nhint:  check its permissions (`ls -l`)\n"
    assert (ran.code, ran.err) == (2, said)
    monkeypatch.setattr("convert.recipe.lookup.known_recipes", lambda: {"a recipe": recipe})
    monkeypatch.setattr("convert.recipe.known_recipes", lambda: {"a recipe": recipe})
    (listed,) = json.loads(run("list", "--json").out)["recipes"]
    assert listed["problem"] == "a recipe.yaml: cannot be read: permission denied"


@pytest.mark.parametrize("command", ["verify", "run"])
def test_what_could_not_be_kept_is_told_all_the_same(
    run: Run, recipe: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def full(*_: object) -> None:
        raise Failure("report.json: the disk is full")

    run("convert", recipe, "--quiet")
    judged = reports.report(reports.artifact("gguf-Q8_0"))
    monkeypatch.setattr("verify.workflow.verify_artifacts", lambda *_, **__: judged)
    monkeypatch.setattr("convert.pipeline.stage.keep.write_json", full)
    ran = run(command, recipe)
    assert (ran.code, ran.err) == (1, "error: report.json: the disk is full\n")
    assert "1 of 1 artifact passed" in ran.out
    assert "report.html" not in ran.out

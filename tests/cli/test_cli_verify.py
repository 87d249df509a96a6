"""`verify` and `report`: what is asked of the stages, what is printed and kept, and the exit codes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest

from convert.pipeline.stage import keep
from tests.verify import planting, reports
from verify.report import read, words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cli.conftest import Run
    from verify.report import Report
    from verify.task import Plan, Subject

RECIPE = """\
model: source
targets: {gguf: {quants: [Q8_0, F16]}}
verify: {scenarios: [pack.yaml], tokens: 256, gates: {smoke_drop: null, top1: 0.8, kl_mean: 0.05}}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe with its model and its pack, converted."""
    home = tmp_path_factory.mktemp("verified")
    planting.make_source(home / "source")
    planting.write_pack(home / "pack.yaml")
    (home / "m.yaml").write_text(RECIPE, "utf-8")
    (home / "long.txt").write_text("The bridge was built by Ann in 1957. " * 60, "utf-8")
    return home


@pytest.fixture
def home(made: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    assert run("convert", "m.yaml", "--quiet").code == 0
    return made


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Nothing is opened: the stage answers with a report of its subjects."""
    asked: dict[str, Any] = {}

    def verify(subjects: tuple[Subject, ...], source: object, plan: Plan, **more: Any) -> Report:
        asked.update(subjects=subjects, source=source, plan=plan, **more)
        passes = {"gguf-Q8_0": False}
        made = [reports.artifact(each.name, passed=passes.get(each.name, True)) for each in subjects]
        return reports.report(*made, recipe="m")

    monkeypatch.setattr("verify.workflow.verify_artifacts", verify)
    return asked


def test_a_recipes_artifacts_are_handed_on(run: Run, home: Path, judged: Mapping[str, Any]) -> None:
    ran = run("verify", "m.yaml", "--only", "gguf-F16", "--threads", 3)
    assert (ran.code, ran.err) == (0, "")
    (subject,) = judged["subjects"]
    assert (subject.name, subject.path) == ("gguf-F16", Path("artifacts/m/gguf-F16"))
    assert subject.gates.top1 == 0.8
    plan = judged["plan"]
    assert (plan.threads, plan.tokens, [pack.scenario for pack in plan.packs]) == (3, 256, ["searchqa"])
    assert "Who built the bridge?" in plan.text
    assert judged["source"].folder.resolve() == home / "source"
    assert run("verify", "m.yaml", "--text", "long.txt").code == 3
    assert judged["plan"].text_name == "long.txt"
    assert judged["plan"].threads == 1


def test_a_failed_gate_is_exit_code_3_and_a_line(run: Run, home: Path, judged: Mapping[str, Any]) -> None:
    ran = run("verify", "m.yaml")
    assert ran.code == 3
    lines = ran.out.splitlines()
    assert lines[0].split() == list(words.HEAD)
    assert max(map(len, lines[:3])) <= 80
    assert "gguf-Q8_0: kl_mean: its KL divergence from the source is 1.7 nats" in lines
    assert "gguf-Q8_0: searchqa-en planets, turn 1: expects: Jupiter" in lines
    assert "1 of 2 artifacts passed, against some/model" in lines
    assert lines[-2:] == [
        "transcripts and figures: artifacts/m/report.html",
        "talk to it: modelwright chat artifacts/m/gguf-F16",
    ]
    answer = json.loads(run("verify", "m.yaml", "--json").out)
    assert [one["passed"] for one in answer["artifacts"]] == [False, True]
    assert {path.name for path in (home / "artifacts" / "m").iterdir() if path.is_file()} == {
        *("report.json", "report.md", "report.html"),
    }
    assert judged


@pytest.mark.usefixtures("home", "judged")
def test_what_was_built_by_another_recipe_is_remarked_on_and_what_a_run_has_built_is_not(run: Run) -> None:
    ran = run("run", "m.yaml", "--out", "fresh", "--json")
    answer = json.loads(ran.out)
    assert (ran.code, ran.err, answer["repos"]) == (3, "", [])
    assert [artifact["status"] for artifact in answer["converted"]["artifacts"]] == ["built", "built"]
    assert not answer["report"]["passed"]
    assert "builds it now" not in run("run", "m.yaml", "--out", "afresh").err
    Path("n.yaml").write_text(RECIPE.replace("[Q8_0, F16]", "[Q8_0, F16], split_max_size: 4G"), "utf-8")
    Path("fresh/m").rename("fresh/n")
    assert "gguf-F16: not as the recipe builds it now" in run("verify", "n.yaml", "--out", "fresh").err


@pytest.mark.parametrize(("columns", "left_out"), [(60, {"tok/s", "memory"}), (500, set())])
@pytest.mark.usefixtures("home", "judged")
def test_a_terminal_gets_the_figures_that_fit_into_a_line(
    columns: int, left_out: set[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("verify", "m.yaml")
    in_a_pipe = run("report", "m.yaml").out.splitlines()[:3]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run("report", "m.yaml").out.splitlines()
    said = "left out, as the terminal is narrow: tok/s, memory"
    assert (said in lines) == bool(left_out)
    lines = [click.unstyle(line) for line in lines[:3]]
    assert lines[0].split() == [title for title in words.HEAD if title not in left_out]
    assert (max(map(len, lines)) <= columns, lines == in_a_pipe) == (True, not left_out)


def test_report_renders_again(run: Run, home: Path, judged: Mapping[str, Any]) -> None:
    assert judged is not None
    run("verify", "m.yaml")
    folder = home / "artifacts" / "m"
    before = (folder / "report.html").read_bytes()
    (folder / "report.html").unlink()
    (folder / "report.md").unlink()
    ran = run("report", "m.yaml")
    assert (ran.code, (folder / "report.html").read_bytes()) == (0, before)
    assert (folder / "report.md").is_file()
    assert "1 of 2 artifacts passed" in ran.out
    assert "transcripts and figures: page.html\n" in run("report", "m.yaml", "--html", "page.html").out
    assert Path("page.html").read_bytes() == before
    *_, last = run("report", "m.yaml", "--explain").out.partition("\n\nartifact  ")
    assert [line.split()[0] for line in last.splitlines()[1:]] == list(words.HEAD[1:])
    ran = run("report", "m.yaml", "--out", "elsewhere")
    assert (ran.code, ran.err.startswith("error: elsewhere/m/report.json: no report there\nhint: ")) == (
        1,
        True,
    )


def test_results_stay_while_they_speak_of_the_same_bytes(
    run: Run, home: Path, judged: Mapping[str, Any]
) -> None:
    assert judged is not None
    folder = home / "artifacts" / "m"
    run("verify", "m.yaml")
    report = read(folder / "report.json")
    own = {name: keep._sha256(folder / name / "manifest.json") for name in ("gguf-Q8_0", "gguf-F16")}
    exact = [each.model_copy(update={"manifest_sha256": own[each.name]}) for each in report.artifacts]
    earlier = report.model_copy(update={"artifacts": tuple(exact)})
    now = reports.report(exact[1], recipe="m")
    assert [each.name for each in keep.joined(earlier, now, folder).artifacts] == [
        "gguf-F16",
        "gguf-Q8_0",
    ]
    assert keep.joined(report, now, folder) == now  # a manifest's digest differs
    other = now.model_copy(update={"text": "another text"})
    assert keep.joined(earlier, other, folder) == other


@pytest.mark.parametrize(
    ("line", "said", "code"),
    [
        (["m.yaml", "artifacts/m/gguf-F16"], "one recipe is verified at a time", 2),
        (["m.yaml", "--source", "source"], "--source is for artifacts", 2),
        (["m.yaml", "--option", "a=b"], "--option is for artifacts", 2),
        (["artifacts/m/gguf-F16", "--source", "source", "--option", "a"], "is not NAME=VALUE", 2),
        (["artifacts/m/gguf-F16", "--only", "gguf"], "--only is for a recipe", 2),
        (["artifacts/m/gguf-F16", "nothing"], "nothing: no such file or folder", 2),
        (["artifacts/m/gguf-F16"], "no manifest names the source's repo", 2),
        (["artifacts/m/gguf-F16", "--source", "m.yaml"], "--source m.yaml: is no folder", 2),
        (["artifacts/m/gguf-F16", "--source", "./none"], "--source ./none: is no folder", 2),
        (["nothing"], "no recipe is called nothing", 2),
        (["nothing", "--source", "source"], "nothing: no such file or folder", 2),
        (["m.yaml", "--out", "elsewhere"], "gguf-Q8_0, gguf-F16: not built yet", 1),
        (["m.yaml", "--scenarios", "nothing"], "no scenario is called nothing", 2),
        (["m.yaml", "--text", "nothing.txt"], "'nothing.txt' does not exist", 2),
        ([], "missing argument", 2),
    ],
)
def test_what_cannot_be_verified_is_said(  # noqa: PLR0917
    line: list[str], said: str, code: int, run: Run, home: Path, judged: Mapping[str, Any]
) -> None:
    assert home.is_dir()
    ran = run("verify", *line)
    assert (ran.code, said in ran.err, ran.out) == (code, True, ""), ran.err
    assert not judged


@pytest.mark.slow
def test_the_whole_way(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing stands in here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = run("verify", "m.yaml", "--only", "gguf-F16")
    assert (ran.code, "1 of 1 artifact passed, against a local folder" in ran.out) == (0, True), ran.out
    assert "source: dialogues" in ran.err
    report = read(home / "artifacts" / "m" / "report.json")
    one = report.artifacts[0]
    assert one.speed is not None
    assert one.memory is not None
    assert one.speed.throughput_tok_s.keys() == {1, 4, 10}
    assert one.scenarios is not None
    assert one.scenarios.transcripts[0].exchanges[0].answer
    assert "searchqa-en-bridge" in (home / "artifacts" / "m" / "report.html").read_text("utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("option", "has_quality", "has_speed"), [("quality", True, False), ("speed", False, True)]
)
def test_a_part_alone_is_measured_and_is_no_verdict(
    option: str, run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, *, has_quality: bool, has_speed: bool
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ran = run("verify", "m.yaml", "--only", "gguf-F16", f"--only-{option}", "--budget", "none")
    report = read(home / "artifacts" / "m" / "report.json")
    (one,) = report.artifacts
    assert (one.quality is not None, one.scenarios is not None, one.speed is not None) == (
        has_quality,
        has_quality,
        has_speed,
    )
    assert (report.source.speed is not None) == has_speed
    assert report.recipe_sha256 is None
    assert has_quality or ran.code == 3, ran.out


@pytest.mark.slow
def test_anybodys_artifacts_are_judged(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stranger's file without a manifest, and a damaged artifact with it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    file = planting.file_of(home / "artifacts" / "m" / "gguf-F16")
    stranger = planting.rewrite(file, home / "stranger.gguf", {"tokenizer.chat_template": None})
    damaged = home / "artifacts" / "m" / "gguf-Q8_0"
    data = bytearray(planting.file_of(damaged).read_bytes())
    data[-1] ^= 1
    planting.file_of(damaged).write_bytes(data)
    line = ("verify", stranger, damaged, "--source", "source", "--scenarios", "pack.yaml", "--report", "kept")
    ran = run(*line, "--json")
    answer = json.loads(ran.out)
    assert (ran.code, answer["recipe"], answer["artifacts"][0]["manifest_sha256"]) == (3, None, None)
    failed = [
        [check["name"] for check in each["checks"] if not check["passed"]] for each in answer["artifacts"]
    ]
    assert "chat_template" in failed[0]
    assert failed[1] == ["digests"]
    assert answer["artifacts"][1]["speed"] is None
    assert Path("kept/report.html").is_file()

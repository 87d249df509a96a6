"""Whose limits an artifact is judged by, and what a verdict is where something could not be measured."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.pipeline.start import each_model, start_trial
from convert.recipe import Gates
from tests.publish.artifacts import TARGETS, stand
from tests.verify import reports
from verify.circumstances import Circumstances
from verify.gates import unmeasured
from verify.judgment import figures, smoke_drop
from verify.report import ArtifactResult, Scenarios, SourceResult, markdown, page, words
from verify.scenarios.score import flips

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text", ["verify: {gates: {top1: 0.0, kl_mean: 99}}", "verify: [", "verify: {gates: 3}"]
)
def test_a_strangers_manifest_does_not_choose_its_limits(text: str, tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    folder = root / recipe.name / TARGETS[0]
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text("utf-8").replace('"recipe": "', f'"recipe": "{text}\\n'), "utf-8")
    (subject,) = start_trial([str(folder)], {}, str(tmp_path), ()).subjects
    assert subject.gates == Gates()
    assert subject.limits_of == "default"


def test_a_repo_with_several_ggufs_is_judged_file_by_file(tmp_path: Path) -> None:
    names = ("m-Q4_K_M.gguf", "m-Q8_0.gguf", "mmproj-m.gguf", "README.md")
    for name in names:
        (tmp_path / name).touch()
    assert each_model(str(tmp_path)) == [str(tmp_path / name) for name in names[:2]]
    assert each_model(str(tmp_path / names[0])) == [str(tmp_path / names[0])]
    (tmp_path / names[1]).rename(tmp_path / "m-Q8_0-00001-of-00002.gguf")  # only its runtime knows the rest
    assert each_model(str(tmp_path)) == [str(tmp_path)]


def test_a_report_says_whose_limits_were_used() -> None:
    found = reports.artifact("a").model_copy(update={"limits_of": "default"})
    report = reports.report(found)
    assert "Judged by the limits of modelwright itself" in markdown.render(report)
    assert "Judged by the limits of modelwright itself" in page.render(report)


def test_a_gate_without_a_measurement_is_inconclusive() -> None:
    passed = reports.artifact("a")
    assert passed.verdict == "passed"
    found = passed.model_copy(update={"unmeasured": ("smoke_drop",)})
    assert (found.verdict, found.passed) == ("inconclusive", False)
    failed = reports.artifact("b", passed=False)
    assert reports.report(passed, found).verdict == "inconclusive"
    assert reports.report(passed, found, failed).verdict == "failed"
    report = reports.report(passed, found)
    assert words.row(found)[-1] == "inconclusive"
    assert "Inconclusive, for want of a measurement: smoke\\_drop" in markdown.render(report)
    assert report.as_dict()["artifacts"][1]["verdict"] == "inconclusive"


def test_a_source_that_passes_nothing_has_nothing_to_lose() -> None:
    good, bad = reports.scenarios("x", passed=True), reports.scenarios("x", passed=False)
    empty = Scenarios(smoke=0.0, scores=(), transcripts=())
    assert smoke_drop(good, bad) == 1.0
    for source, found in ((bad, good), (bad, bad), (empty, empty), (None, good), (good, None)):
        assert smoke_drop(source, found) is None
    assert "smoke_drop" not in figures(1, {"smoke_drop": None})


def test_a_source_that_fails_nearly_all_its_questions_makes_no_measurement() -> None:
    found = reports.scenarios("x", passed=True)
    many = [replace(found.transcripts[0], dialogue=str(number)) for number in range(20)]
    lost = replace(many[0], exchanges=reports.scenarios("x", passed=False).transcripts[0].exchanges)

    def with_passed(count: int) -> Scenarios:
        held = tuple(each if at < count else replace(lost, dialogue=str(at)) for at, each in enumerate(many))
        return Scenarios(smoke=count / 20, scores=(), transcripts=held)

    assert smoke_drop(with_passed(1), with_passed(0)) is None
    assert smoke_drop(with_passed(2), with_passed(0)) == pytest.approx(0.1)
    assert flips(with_passed(6).transcripts, with_passed(4).transcripts) == (2, 0)
    assert flips(with_passed(4).transcripts, with_passed(5).transcripts) == (0, 1)
    report = reports.report(reports.artifact("a").model_copy(update={"scenarios": with_passed(3)}))
    text = markdown.render(report.model_copy(update={"source": source_with(with_passed(5))}))
    assert "turned wrong, and right | 2 and 0 of 20" in text


def source_with(found: Scenarios) -> SourceResult:
    return reports.report().source.model_copy(update={"scenarios": found})


def test_a_speed_on_a_busy_machine_is_shown_and_not_gated() -> None:
    made = reports.artifact("a")
    assert made.speed is not None
    busy = replace(made.speed, circumstances=Circumstances("2026-11-26", 1.5, 2))
    quiet = replace(made.speed, circumstances=Circumstances("2026-11-26", 0.1, 2))
    limits = Gates(decode_tok_s=10.0, load_s=1.0)
    assert {"decode_tok_s", "load_s"} <= figures(1, {}, quiet).keys()
    assert not {"decode_tok_s", "load_s"} & figures(1, {}, busy).keys()
    lacking = unmeasured(limits, figures(1, {"smoke_drop": 0.0}, made.quality, busy, made.memory))
    assert lacking == ("load_s", "decode_tok_s")
    found = made.model_copy(update={"speed": busy, "unmeasured": lacking})
    assert found.verdict == "inconclusive"
    assert "decode_tok_s (other programs kept the machine busy)" in words.unmeasured(found)


def test_a_verdict_in_a_file_is_not_read_back() -> None:
    found = reports.artifact("b", passed=False)
    content = found.model_dump(mode="json") | {"name": "c"}
    again = ArtifactResult.model_validate(content)
    assert again == replace_name(found, "c")
    assert again.verdict == "failed"


def replace_name(found: ArtifactResult, name: str) -> ArtifactResult:
    return found.model_copy(update={"name": name, "checks": tuple(map(replace, found.checks))})

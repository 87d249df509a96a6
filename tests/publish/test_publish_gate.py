"""What may go out: the very bytes that passed, by this version and recipe; and what is said otherwise."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from convert.errors import Exit, Failure, UsageFailure
from convert.formats.gguf.format import GgufFormat
from convert.publish.bundle import Waiver
from convert.publish.gate import check_waivers, examine
from tests.publish.artifacts import GOOD, TARGETS, asked, build, result, stand, write_recipe, write_report
from verify.gates import Check
from verify.report import NAME, write_json
from verify.revision import REVISION

if TYPE_CHECKING:
    from pathlib import Path

    from convert.publish.bundle import Candidate
    from convert.recipe import Recipe

WAIVED = "{waive: [{gate: top1, reason: two bits, target: gguf-Q6_K}, {gate: kl_mean, reason: small}]}"


def candidates(recipe: Recipe, root: Path, *targets: str) -> tuple[Candidate, ...]:
    return examine(recipe, asked(recipe, targets or TARGETS), root / recipe.name)[1]


def refused(recipe: Recipe, root: Path, *targets: str) -> Failure:
    with pytest.raises(Failure) as caught:
        candidates(recipe, root, *targets)
    for problem in caught.value.problems:
        assert "\n" not in problem.message + problem.hint
        assert problem.hint
    return caught.value


def judged(recipe: Recipe, root: Path, **worse: float | None) -> None:
    """A report in which the first artifact did as badly as told, and the other passed."""
    first, other = (root / recipe.name / target for target in TARGETS)
    write_report(recipe, root, result(recipe, first, {**GOOD, **worse}), result(recipe, other))


def test_what_passed_may_go_out(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    found = candidates(recipe, root)
    assert [each.target for each in found] == list(TARGETS)
    assert all(not each.waived for each in found)
    assert all(each.result.manifest_sha256 == each.manifest_sha256 for each in found)


@pytest.mark.parametrize("at", [0, 20_000, -1])
def test_one_flipped_bit_stays_here(tmp_path: Path, at: int) -> None:
    recipe, root = stand(tmp_path)
    model = root / recipe.name / TARGETS[1] / "tiny-Q8_0.gguf"
    content = bytearray(model.read_bytes())
    content[at] ^= 1
    model.write_bytes(content)
    failure = refused(recipe, root)
    assert "sha256 differs, and it is not what was verified" in failure.message
    assert "remove the artifact's folder" in failure.hint  # `convert` alone would call it up to date
    assert candidates(recipe, root, TARGETS[0])


def test_a_file_that_went_missing_or_grew(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    licence = root / recipe.name / TARGETS[0] / "LICENSE"
    licence.write_bytes(b"Do as you like, all of you.\n")
    assert "LICENSE: size differs" in refused(recipe, root).message
    licence.unlink()
    failure = refused(recipe, root)
    assert "LICENSE: missing" in failure.message
    assert failure.hint == f"modelwright convert {recipe.path}, then verify it"


def test_a_file_that_nobody_verified_is_not_shipped(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    (root / recipe.name / TARGETS[0] / "notes.txt").write_text("secret plans")
    assert all(
        entry.path != "notes.txt" for each in candidates(recipe, root) for entry in each.manifest.files
    )


def test_built_anew_since_it_was_verified(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    build(recipe, root, TARGETS[0], size_bytes=50_000)
    failure = refused(recipe, root)
    assert failure.message == "gguf-Q6_K: rebuilt since it was verified"
    assert failure.hint == f"modelwright verify {recipe.path}"


def test_never_verified(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    write_report(recipe, root, result(recipe, root / recipe.name / TARGETS[0]))
    assert refused(recipe, root).message == "gguf-Q8_0: not verified yet"
    (root / recipe.name / NAME).unlink()
    failure = refused(recipe, root)
    assert "no such report" in failure.message
    assert failure.hint == f"modelwright verify {recipe.path}"


@pytest.mark.parametrize("revision", [None, REVISION - 1, REVISION + 1])  # version 0.1.0 recorded none
def test_verified_by_other_checks_or_measurements(tmp_path: Path, revision: int | None) -> None:
    recipe, root = stand(tmp_path)
    results = [result(recipe, root / recipe.name / target) for target in TARGETS]
    write_report(recipe, root, *results, revision=revision)
    failure = refused(recipe, root)
    assert "report.json: modelwright 0.1.0 made it by other checks or measurements" in failure.message
    assert failure.hint == f"modelwright verify {recipe.path}"


@pytest.mark.parametrize("revision", [None, GgufFormat.REVISION - 1])
def test_built_when_the_format_had_other_bytes(tmp_path: Path, revision: int | None) -> None:
    recipe, root = stand(tmp_path)
    folders = [build(recipe, root, target, revision=revision) for target in TARGETS]
    write_report(recipe, root, *(result(recipe, folder) for folder in folders))
    assert (
        "gguf-Q6_K: built by modelwright 0.1.0, and the bytes of gguf have changed since"
        in refused(recipe, root).message
    )


def test_judged_by_another_recipe(tmp_path: Path) -> None:
    _, root = stand(tmp_path)
    stricter = write_recipe(tmp_path, more="verify: {gates: {top1: 0.97}}")
    assert "model, targets or verify: changed since" in refused(stricter, root).message


def test_what_only_publishing_is_about_may_change_afterwards(tmp_path: Path) -> None:
    _, root = stand(tmp_path)
    changed = write_recipe(tmp_path, '{repo: "lab/{model}", private: false, tag: v2}', more="# a remark")
    assert len(candidates(changed, root)) == 2


def test_each_class_of_nodes_has_its_report_and_its_limits(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path, more="verify: {on: [cpu, gpu], gates_on: {gpu: {top1: 0.995}}}")
    assert refused(recipe, root).hint == f"modelwright verify {recipe.path} --on gpu"
    folders = [root / recipe.name / target for target in TARGETS]
    there = recipe.model_copy(update={"verify": recipe.verify.on_class("gpu")})
    for top1, passes in ((0.99, False), (0.999, True)):
        found = (result(there, folder, {**GOOD, "top1": top1}) for folder in folders)
        write_json(root / recipe.name / "reports" / "gpu" / NAME, write_report(recipe, root, *found))
        write_report(recipe, root, *(result(recipe, folder) for folder in folders))
        if passes:
            assert candidates(recipe, root)
        else:
            messages = [problem.message.split(": ")[:2] for problem in refused(recipe, root).problems]
            assert messages == [[target, "top1 on gpu"] for target in TARGETS]


def test_other_questions_than_the_recipes(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    report = write_report(recipe, root, *(result(recipe, root / recipe.name / each) for each in TARGETS))
    write_json(root / recipe.name / NAME, report.model_copy(update={"recipe_sha256": None}))
    assert "model, targets or verify: changed since" in refused(recipe, root).message


def test_held_against_another_source(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    report = write_report(recipe, root, *(result(recipe, root / recipe.name / each) for each in TARGETS))
    other = report.source.model_copy(update={"digest": "0" * 64})
    write_json(root / recipe.name / NAME, report.model_copy(update={"source": other}))
    assert "compared with another source than it was built from" in refused(recipe, root).message


def test_built_with_other_options(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    wanted = [
        replace(each, own_options={**each.own_options, "split_max_bytes": 1000}) for each in asked(recipe)
    ]
    with pytest.raises(Failure, match="gguf-Q6_K: built with other options than the recipe's"):
        examine(recipe, wanted, root / recipe.name)


def test_every_failed_gate_is_told_at_once(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    judged(recipe, root, top1=0.2, kl_mean=3.0)
    failure = refused(recipe, root)
    assert failure.exit_code == Exit.GATE_FAILED
    assert [problem.message.split(": ")[:2] for problem in failure.problems] == [
        ["gguf-Q6_K", "kl_mean"],
        ["gguf-Q6_K", "top1"],
    ]
    assert "waive: [{gate: kl_mean, target: gguf-Q6_K, reason: …}]" in failure.problems[0].hint
    assert candidates(recipe, root, TARGETS[1])


@pytest.mark.parametrize("measured", [None, float("nan")])
def test_a_figure_that_is_none_has_not_passed(tmp_path: Path, measured: float | None) -> None:
    recipe, root = stand(tmp_path)
    judged(recipe, root, top1=measured)
    assert refused(recipe, root).exit_code == Exit.GATE_FAILED


def test_a_gate_that_was_not_measured_has_not_passed(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    first, other = (root / recipe.name / target for target in TARGETS)
    less = {"smoke_drop": 0.0}
    write_report(recipe, root, result(recipe, first, less), result(recipe, other))
    messages = [problem.message for problem in refused(recipe, root).problems]
    assert messages == [
        f"gguf-Q6_K: {name}: it was not measured, and the recipe sets a limit"
        for name in ("ppl_ratio", "kl_mean", "top1")
    ]
    waived = write_recipe(tmp_path, f"{WAIVED[:-2]}, {{gate: ppl_ratio, reason: none}}]}}")
    assert [each.gate for each in candidates(waived, root)[0].waived] == ["top1", "kl_mean", "ppl_ratio"]


def test_a_waiver_is_for_the_gate_and_the_artifact_that_it_names(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path, WAIVED)
    judged(recipe, root, top1=0.2)
    first, other = candidates(recipe, root)
    assert first.waived == (Waiver("top1", "two bits"),)
    assert other.waived == ()
    judged(recipe, root, ppl_ratio=2.0, top1=0.2)
    (problem,) = refused(recipe, root).problems
    assert problem.message.startswith("gguf-Q6_K: ppl_ratio:")
    first_folder, other_folder = (root / recipe.name / target for target in TARGETS)
    write_report(
        recipe, root, result(recipe, first_folder), result(recipe, other_folder, {**GOOD, "top1": 0.2})
    )
    assert refused(recipe, root).message.startswith("gguf-Q8_0: top1:")


@pytest.mark.parametrize("target", ["onnx-int4", "gguf-Q9_K", "gguf"])
def test_a_waiver_of_an_artifact_that_there_is_not(tmp_path: Path, target: str) -> None:
    recipe = write_recipe(tmp_path, f"{{waive: [{{gate: top1, reason: two bits, target: {target}}}]}}")
    with pytest.raises(UsageFailure, match=f"the recipe builds no {target}$") as caught:
        check_waivers(recipe, TARGETS)
    assert "it builds gguf-Q6_K, gguf-Q8_0" in caught.value.hint
    check_waivers(write_recipe(tmp_path, WAIVED), TARGETS)


def test_nothing_but_a_gate_can_be_waived(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path, "{waive: [{gate: top1, reason: two bits}]}")
    first, other = (result(recipe, root / recipe.name / target) for target in TARGETS)
    crashed = Check("answers", "crash", "an answer", passed=False, why="it died of SIGSEGV")
    checks = (*(check for check in first.checks if check.name != "answers"), crashed)
    write_report(recipe, root, first.model_copy(update={"checks": checks}), other)
    (problem,) = refused(recipe, root).problems
    assert problem.message == "gguf-Q6_K: answers: it died of SIGSEGV"
    assert "this cannot be waived" in problem.hint


def test_a_report_with_no_checks_or_looser_ones(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    first, other = (result(recipe, root / recipe.name / target) for target in TARGETS)
    write_report(recipe, root, first.model_copy(update={"checks": ()}), other)
    assert "nothing was checked" in refused(recipe, root).problems[-1].message
    loose = tuple(replace(check, limit=0.01) if check.name == "top1" else check for check in first.checks)
    write_report(recipe, root, first.model_copy(update={"checks": loose}), other)
    assert "it was judged by the limit 0.01, and the recipe's is 0.9" in refused(recipe, root).message


def test_an_artifact_that_is_gone(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    there, gone = asked(recipe)
    shutil.rmtree(root / recipe.name / gone.name)
    with pytest.raises(Failure, match=r"no manifest\.json there"):
        examine(recipe, (there, gone), root / recipe.name)


def test_nothing_was_built_yet(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path)
    failure = refused(recipe, tmp_path / "artifacts")
    assert failure.message == "gguf-Q6_K, gguf-Q8_0: not built yet"
    assert failure.hint.startswith(f"modelwright convert {recipe.path}")

"""Reports that were changed, or that are of something else by now: none of them goes out."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from convert.errors import Failure
from convert.formats import option_models
from convert.publish.gate import examine
from convert.recipe import load
from tests.publish.artifacts import GOOD, TARGETS, asked, build, result, stand, write_recipe, write_report
from verify import scenarios
from verify.report import NAME, ArtifactResult, Report, Scenarios, write_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from convert.recipe import Recipe
    from verify.gates import Check
    from verify.scenarios.transcript import Transcript


def checks(change: Callable[[Check], Check | None]) -> Callable[[ArtifactResult], dict[str, Any]]:
    return lambda found: {"checks": tuple(filter(None, map(change, found.checks)))}


def said(name: str, **other: Any) -> Callable[[ArtifactResult], dict[str, Any]]:
    return checks(lambda check: replace(check, **other) if check.name == name else check)


def without(name: str) -> Callable[[ArtifactResult], dict[str, Any]]:
    return checks(lambda check: None if check.name == name else check)


def measured(**other: Any) -> Callable[[ArtifactResult], dict[str, Any]]:
    return lambda found: {"quality": replace(found.quality, **other) if found.quality else None}


def dialogues(change: Callable[[tuple[Transcript, ...]], tuple[Transcript, ...]]) -> Any:
    def changed(found: ArtifactResult) -> dict[str, Any]:
        assert found.scenarios
        return {
            "scenarios": found.scenarios.model_copy(
                update={"transcripts": change(found.scenarios.transcripts)}
            )
        }

    return changed


def forgotten(found: Transcript) -> Transcript:
    """The same dialogue with the first check of its first answer left out."""
    first, *later = found.exchanges
    return replace(found, exchanges=(replace(first, checks=first.checks[1:]), *later))


def optional(found: Transcript) -> Transcript:
    """The same dialogue with its checks failed, and none of them required."""
    return replace(
        found,
        exchanges=tuple(
            replace(each, checks=tuple(replace(one, passed=False, required=False) for one in each.checks))
            for each in found.exchanges
        ),
    )


DOCTORED: dict[str, Callable[[ArtifactResult], dict[str, Any]]] = {
    "a bad figure that is said to have passed": said("kl_mean", measured=9.0),
    "a bad measurement behind a good figure": measured(kl_mean=9.0),
    "both": lambda found: {**said("kl_mean", measured=9.0)(found), **measured(kl_mean=9.0)(found)},
    "another good figure than was measured": said("top1", measured=0.995),
    "a looser limit": said("top1", limit=0.1),
    "digests that differ": said("digests", measured=1),
    "no digests": without("digests"),
    "no header": without("header"),
    "no tokenizer": without("tokenizer"),
    "no chat tokens": without("chat_tokens"),
    "no answers": without("answers"),
    "a tokenizer that differs": said("tokenizer", measured=3),
    "a template that differs": said("chat_template", measured="differs"),
    "an end that is lost": said("end_of_turn", measured=1),
    "another vocabulary": said("vocabulary", measured=511),
    "fewer answers": said("answers", measured=1),
    "no gate": without("ppl_ratio"),
    "a failed result, then a passed one": lambda found: {
        "checks": (replace(found.checks[-1], passed=False), *found.checks)
    },
    "a passed result, then the same": lambda found: {"checks": (*found.checks, found.checks[0])},
    "another size": lambda _: {"size_bytes": 1},
    "no quality": lambda _: {"quality": None},
    "no scenarios": lambda _: {"scenarios": None},
    "a dialogue less": dialogues(lambda found: found[1:]),
    "a dialogue twice": dialogues(lambda found: (*found, found[0])),
    "a dialogue without turns": dialogues(lambda found: (replace(found[0], exchanges=()), *found[1:])),
    "a dialogue with a check less": dialogues(lambda found: (forgotten(found[0]), *found[1:])),
    "checks that do not count": dialogues(lambda found: (optional(found[0]), *found[1:])),
    "failures behind a good score": dialogues(
        lambda found: tuple(
            replace(each, exchanges=tuple(
                replace(one, checks=tuple(replace(check, passed=False) for check in one.checks))
                for one in each.exchanges
            ))
            for each in found
        )
    ),
    "a better score": lambda found: {
        "scenarios": found.scenarios.model_copy(update={"smoke": 0.5}) if found.scenarios else None
    },
}  # fmt: skip


def refused(recipe: Recipe, root: Path) -> str:
    with pytest.raises(Failure) as caught:
        examine(recipe, asked(recipe), root / recipe.name)
    return "\n".join(problem.message for problem in caught.value.problems)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path, tuple[ArtifactResult, ...]]:
    recipe, root = stand(tmp_path_factory.mktemp("doctored"))
    assert len(examine(recipe, asked(recipe), root / recipe.name)[1]) == 2
    return recipe, root, tuple(result(recipe, root / recipe.name / target) for target in TARGETS)


@pytest.mark.parametrize("what", DOCTORED)
def test_a_doctored_result_does_not_go_out(
    what: str, ground: tuple[Recipe, Path, tuple[ArtifactResult, ...]]
) -> None:
    recipe, root, (first, other) = ground
    write_report(recipe, root, first.model_copy(update=DOCTORED[what](first)), other)
    assert refused(recipe, root).startswith(f"{TARGETS[0]}: ")


def doctored_source(change: Callable[[Scenarios], Scenarios | None]) -> Callable[[Report], Report]:
    def changed(report: Report) -> Report:
        assert report.source.scenarios
        source = report.source.model_copy(update={"scenarios": change(report.source.scenarios)})
        return report.model_copy(update={"source": source})

    return changed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (doctored_source(lambda _: None), "the source was not asked each dialogue once"),
        (
            doctored_source(lambda found: found.model_copy(update={"transcripts": found.transcripts[1:]})),
            "the source was not asked each dialogue once",
        ),
        (
            lambda report: report.model_copy(update={"artifacts": (*report.artifacts, report.artifacts[0])}),
            "two results of one artifact",
        ),
    ],
)
def test_a_doctored_report_does_not_go_out(
    change: Callable[[Report], Report], why: str, tmp_path: Path
) -> None:
    recipe, root = stand(tmp_path)
    report = write_report(recipe, root, *(result(recipe, root / recipe.name / each) for each in TARGETS))
    write_json(root / recipe.name / NAME, change(report))
    assert why in refused(recipe, root)


def test_a_source_that_passes_nothing_is_inconclusive(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    report = write_report(recipe, root, *(result(recipe, root / recipe.name / each) for each in TARGETS))
    lost = result(recipe, root / recipe.name / TARGETS[0], {**GOOD, "smoke_drop": 1.0}).scenarios
    source = report.source.model_copy(update={"scenarios": lost})
    write_json(root / recipe.name / NAME, report.model_copy(update={"source": source}))
    assert "smoke_drop: the source passes next to no dialogue, and the recipe sets a limit" in refused(
        recipe, root
    )
    waived = write_recipe(tmp_path, "{waive: [{gate: smoke_drop, reason: it is tiny}]}")
    assert len(examine(waived, asked(waived), root / waived.name)[1]) == 2


@pytest.mark.parametrize("key", ["scenarios", "text", "calibration"])
def test_what_a_named_file_says_is_a_part_of_what_was_asked(key: str, tmp_path: Path) -> None:
    shipped = {
        "scenarios": next((scenarios.loading._SHIPPED).glob("searchqa-en.yaml")).read_text("utf-8"),
        "text": "Some words to read. " * 50,
        "calibration": "Some words to learn from. " * 50,
    }
    name = f"{key}.yaml" if key == "scenarios" else f"{key}.txt"
    file = tmp_path / name
    file.write_text(shipped[key], "utf-8")
    more = f"calibration: {{text: {name}}}" if key == "calibration" else None
    more = more or f"verify: {{{key}: {f'[{name}]' if key == 'scenarios' else name}}}"
    recipe, root = stand(tmp_path, more=more)
    assert len(examine(recipe, asked(recipe), root / recipe.name)[1]) == 2
    file.write_text(shipped[key].replace(" ", "  ", 1) + "\n", "utf-8")
    again = load(recipe.path, option_models())
    assert again == recipe
    assert "model, targets or verify: changed since" in refused(again, root)


def test_an_artifact_that_was_built_again_with_the_same_report(tmp_path: Path) -> None:
    recipe, root = stand(tmp_path)
    build(recipe, root, TARGETS[0], size_bytes=50_000)
    assert "rebuilt since it was verified" in refused(recipe, root)

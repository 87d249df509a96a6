"""Keep the report: its three files on disk, and what is still true of an earlier one."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.digest import sha256_of
from convert.errors import Failure
from convert.pick.page import for_recipes
from convert.pipeline.run import AnyTrial, Run
from convert.recipe import Recipe
from convert.store import MANIFEST_NAME
from verify.report import NAME, ArtifactResult, Report, markdown, page, read, write, write_json


def keep(trial: AnyTrial) -> AnyTrial:
    """Write the report's three files, with earlier results that still describe the artifacts there."""
    folder = trial.report_folder
    if folder is None:
        return trial
    home = trial.store.root / trial.recipe.name if isinstance(trial, Run) else folder
    whole = joined(_earlier(folder / NAME), trial.report, home)
    write_json(folder / NAME, whole)
    return replace(trial, page=render(whole, folder, [trial.recipe] if trial.recipe else []))


def render(report: Report, folder: Path, recipes: Sequence[Recipe]) -> Path:
    """Write report.md and report.html, with a choice by the recipe of that folder; return the latter."""
    own = [each for each in recipes if each.name == folder.name]
    write(folder / "report.md", markdown.render(report))
    write(folder / "report.html", render_page([report], own, folder.parent))
    return folder / "report.html"


def render_page(reports: Sequence[Report], recipes: Sequence[Recipe], out: Path) -> str:
    """Render one page of all these reports, with what there is to choose between."""
    return page.render(*reports, choice=for_recipes(recipes, out) if recipes else None)


def joined(earlier: Report | None, report: Report, folder: Path) -> Report:
    """Add the earlier results of artifacts that were left out now, if all was the same for them."""
    if earlier is None or _grounds(earlier) != _grounds(report):
        return report
    fresh = {artifact.name for artifact in report.artifacts}
    kept = [
        artifact
        for artifact in earlier.artifacts
        if artifact.name not in fresh
        and artifact.manifest_sha256 is not None
        and not is_newer(artifact, folder)
    ]
    return report.model_copy(update={"artifacts": (*report.artifacts, *kept)})


def is_newer(artifact: ArtifactResult, folder: Path) -> bool:
    """Say whether the artifact there is another than the one that was verified."""
    return artifact.manifest_sha256 != _sha256(folder / artifact.name / MANIFEST_NAME)


def _grounds(report: Report) -> tuple[Any, ...]:
    asked = report.source.scenarios.scores if report.source.scenarios else ()
    tools = {name: version for name, version in report.machine.versions.items() if name != "modelwright"}
    return (
        report.revision,
        report.recipe_sha256,
        report.text,
        report.source.digest,
        [(each.scenario, each.language, each.dialogues) for each in asked],
        replace(report.machine, load_average=0.0, versions=tools),
    )


def _earlier(path: Path) -> Report | None:
    try:
        return read(path)
    except Failure:  # absent or damaged: it is replaced
        return None


def _sha256(path: Path) -> str | None:
    return sha256_of(path) if path.is_file() else None

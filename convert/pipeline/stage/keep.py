"""Keep the report: its three files on disk, and what is still true of an earlier one."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from convert.digest import sha256_of
from convert.errors import Failure
from convert.pipeline.run import AnyTrial
from convert.store import MANIFEST_NAME
from verify.report import NAME, ArtifactResult, Report, markdown, page, read, write, write_json


def keep(trial: AnyTrial) -> AnyTrial:
    """Write the report's three files, with earlier results that still describe the artifacts there."""
    folder = trial.report_folder
    if folder is None:
        return trial
    whole = joined(_earlier(folder / NAME), trial.report, folder)
    write_json(folder / NAME, whole)
    return replace(trial, page=render(whole, folder))


def render_again(folder: Path, html: Path | None = None) -> tuple[Report, Path, tuple[str, ...]]:
    """Render report.json again; return it, where the page is, and the artifacts that were rebuilt since."""
    report = read(folder / NAME)
    if html:
        write(html, page.render(report))
    else:
        html = render(report, folder)
    return report, html, tuple(each.name for each in report.artifacts if is_newer(each, folder))


def render(report: Report, folder: Path) -> Path:
    """Write report.md and report.html; return the latter."""
    write(folder / "report.md", markdown.render(report))
    write(folder / "report.html", page.render(report))
    return folder / "report.html"


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

"""The report of a recipe on disk: its three files, and what of an earlier one still holds."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.store import MANIFEST_NAME
from verify.report import NAME, Report, markdown, page, read, write, write_json

if TYPE_CHECKING:
    from pathlib import Path

    from verify.report import ArtifactResult


def keep(report: Report, folder: Path) -> Report:
    """Write the report's three files; results of before stay where they speak of the same bytes."""
    path = folder / NAME
    whole = joined(_earlier(path), report, folder)
    write_json(path, whole)
    render(whole, folder)
    return whole


def render(report: Report, folder: Path) -> None:
    """Write report.md and report.html."""
    write(folder / "report.md", markdown.render(report))
    write(folder / "report.html", page.render(report))


def joined(earlier: Report | None, report: Report, folder: Path) -> Report:
    """Add the earlier results of artifacts that were left out now, if they rest on the same grounds."""
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
    """Is what stands there not what this result speaks of?"""
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
    except Failure:  # absent or damaged: it is written anew
        return None


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

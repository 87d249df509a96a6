"""Decide what may be published: the report is of these very bytes, and every gate passed or is waived.

The report is judged again from its measurements, which protects from mistakes and stale files. It is not
signed: whoever can write it can write other measurements, too.
"""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from convert.errors import Exit, Failure, Failures, UsageFailure
from convert.formats import find_format
from convert.progress import Progress, Silent
from convert.publish.bundle import Candidate, Waiver
from convert.publish.remedy import remedy
from convert.recipe import Recipe, Target, cli_name
from convert.recipe.span import span_s
from convert.source import digest_of_all
from convert.store import MANIFEST_NAME, REBUILT, Flaw, inspect_artifact, read_manifest
from verify.gates import GATES, limits_for
from verify.judgment import asked_of, shortfalls
from verify.report import NAME as REPORT_NAME
from verify.report import ArtifactResult, Report
from verify.report import read as read_report
from verify.revision import REVISION
from verify.scenarios.loading import load as load_packs
from verify.scenarios.pack import Pack

Lacking: TypeAlias = list[tuple[str, str]]  # what was not passed, and why


class Refusals(Failures):
    """Everything that keeps artifacts from being published."""

    exit_code = Exit.GATE_FAILED


def examine(
    recipe: Recipe, targets: Sequence[Target], folder: Path, *, progress: Progress | None = None
) -> tuple[Report, tuple[Candidate, ...]]:
    """Return the report and the artifacts, each file hashed now, if all of them may be published."""
    names = ", ".join(each.name for each in targets)
    if not any((folder / each.name / MANIFEST_NAME).is_file() for each in targets):
        raise Failure(f"{names}: not built yet", _rebuilding(recipe))
    reports, judged, refusals = [], [], []
    for kind in recipe.verify.classes:
        report, found = _judged(recipe, targets, folder, kind)
        refusals += [problem for each, lacking in found for problem in _unwaived(recipe, each, lacking, kind)]
        reports.append(report)
        judged.append([each for each, _ in found])
    if refusals:
        raise Refusals(refusals)
    candidates = tuple(
        replace(each[0], waived=tuple(dict.fromkeys(waiver for one in each for waiver in one.waived)))
        for each in zip(*judged, strict=True)
    )
    _compare_bytes(recipe, candidates, progress or Silent())
    return reports[0], candidates


def _judged(
    recipe: Recipe, targets: Sequence[Target], folder: Path, kind: str
) -> tuple[Report, list[tuple[Candidate, Lacking]]]:
    """Read the report of a class of nodes, and judge each artifact by it."""
    where = recipe.verify.report_folder(folder, kind)
    report = current_report(recipe, where, kind)
    results = {result.name: result for result in report.artifacts}
    again = _verifying(recipe, kind)
    if len(results) < len(report.artifacts):
        raise Failure(f"{where / REPORT_NAME}: has two results of one artifact", again)
    unknown = [each.name for each in targets if each.name not in results]
    if unknown:
        raise Failure(f"{', '.join(unknown)}: not verified yet{_on(kind)}", again)
    packs = asked_of(load_packs(recipe.verify.scenarios, recipe.path.parent), report.scope)
    return report, [
        _candidate(recipe, each, folder / each.name, report, results[each.name], kind=kind, packs=packs)
        for each in targets
    ]


def check_waivers(recipe: Recipe, targets: Collection[str]) -> None:
    """Refuse a waiver for an artifact that the recipe does not build: it would waive nothing, unnoticed."""
    for waiver in recipe.publish.waive if recipe.publish else ():
        if waiver.target is not None and waiver.target not in targets:
            raise UsageFailure(
                f"{recipe.path}: publish.waive: the recipe builds no {waiver.target}",
                f"it builds {', '.join(targets)}; without a target, a waiver is for all of them",
            )


def current_report(recipe: Recipe, folder: Path, kind: str = "") -> Report:
    """Read the recipe's report; it must be of this recipe, by today's checks and measurements."""
    path, again = folder / REPORT_NAME, _verifying(recipe, kind)
    if not path.is_file():
        raise Failure(f"{path}: no such report, so nothing was verified yet", again)
    report = read_report(path)
    if report.revision != REVISION:
        raise Failure(f"{path}: modelwright {report.tool} made it by other checks or measurements", again)
    if report.scope and report.scope.limit_s != span_s(recipe.verify.budget):
        raise Failure(f"{path}: another budget than the recipe's decided what was asked", again)
    if report.recipe_sha256 != recipe.asked_sha256:
        what = "the recipe's model, targets or verify: changed since" if report.recipe else "of no recipe"
        raise Failure(f"{path}: {what}", again)
    return report


def _candidate(
    recipe: Recipe,
    target: Target,
    folder: Path,
    report: Report,
    result: ArtifactResult,
    *,
    kind: str,
    packs: Sequence[Pack],
) -> tuple[Candidate, Lacking]:
    """Read an artifact; it must be the one that was verified, and built from the report's source."""
    manifest = read_manifest(folder)
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    if digest != result.manifest_sha256:
        raise Failure(f"{target.name}: rebuilt since it was verified{_on(kind)}", _verifying(recipe, kind))
    wrong = None
    if manifest.format_revision != find_format(manifest.format).REVISION:
        built = manifest.tools.get("modelwright")
        wrong = f"built by modelwright {built}, and the bytes of {manifest.format} have changed since"
    elif manifest.target != target.name or manifest.options != dict(target.own_options):
        wrong = "built with other options than the recipe's"
    elif digest_of_all(manifest.read_files) != report.source.digest:
        wrong = "compared with another source than it was built from"
    if wrong:
        raise Failure(f"{target.name}: {wrong}", _rebuilding(recipe))
    scope = report.scope
    gates = recipe.verify.on_class(kind).gates
    limits = limits_for(gates, target.name, scope.dialogues if scope else None)
    lacking = list(shortfalls(result, report.source, limits, packs, manifest.size_bytes))
    names = {name for name, _ in lacking}
    waived = tuple(
        Waiver(each.gate, each.reason)
        for each in (recipe.publish.waive if recipe.publish else ())
        if each.target in (None, target.name) and each.gate in names
    )
    return Candidate(target.name, folder, manifest, digest, result, waived), lacking


def _unwaived(recipe: Recipe, candidate: Candidate, lacking: Lacking, kind: str) -> Iterator[Failure]:
    waived = {waiver.gate for waiver in candidate.waived}
    for name, why in lacking:
        is_gate = any(gate.name == name for gate in GATES)
        if name in waived and is_gate:
            continue
        hint = (
            remedy(name, candidate.target, recipe)
            if is_gate
            else f"{_rebuilding(recipe)}; this cannot be waived"
        )
        yield Failure(f"{candidate.target}: {name}{_on(kind)}: {why}", hint)


def _compare_bytes(recipe: Recipe, candidates: Sequence[Candidate], progress: Progress) -> None:
    """Hash every file now: what was verified yesterday may have been changed since."""
    total = sum(candidate.manifest.size_bytes for candidate in candidates)
    with progress.stage("check", total) as advance:
        for candidate in candidates:
            found = inspect_artifact(candidate.folder, verify=True, progress=advance)
            for wrong in (each for each in found.differences if each.flaw is not Flaw.EXTRA):
                raise Failure(
                    f"{candidate.folder / wrong.path}: {wrong.flaw}, and it is not what was verified",
                    f"{REBUILT}; then verify it" if wrong.flaw is Flaw.SHA256 else _rebuilding(recipe),
                )


def _rebuilding(recipe: Recipe) -> str:
    return f"modelwright convert {cli_name(recipe.path)}, then verify it"


def _verifying(recipe: Recipe, kind: str) -> str:
    return f"modelwright verify {cli_name(recipe.path)}" + (f" --on {kind}" if kind else "")


def _on(kind: str) -> str:
    return f" on {kind}" if kind else ""

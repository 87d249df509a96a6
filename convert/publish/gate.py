"""Whether an artifact may go out: the report is of these very bytes, and every gate passed or is waived."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.errors import Exit, Failure, UsageFailure
from convert.formats import find_format
from convert.progress import Progress, Silent
from convert.publish.bundle import Candidate, Waiver
from convert.recipe import cli_name
from convert.source import digest_of_all
from convert.store import MANIFEST_NAME, REBUILT, Flaw, Manifest, inspect_artifact, read_manifest
from verify.gates import GATES, limits_for
from verify.report import NAME as REPORT_NAME
from verify.report import read as read_report
from verify.revision import REVISION

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from pydantic import JsonValue

    from convert.recipe import Recipe
    from verify.report import ArtifactResult, Report

GATE_NAMES = frozenset(gate.name for gate in GATES)


class Refused(Failure):
    """One artifact that may not go out, for one reason."""

    exit_code = Exit.GATE_FAILED


class Refusals(Failure):
    """Everything that keeps artifacts from going out."""

    exit_code = Exit.GATE_FAILED

    def __init__(self, problems: Sequence[Failure]) -> None:
        super().__init__("\n".join(problem.message for problem in problems))
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[Failure, ...]:
        """Each of them."""
        return self._problems


@dataclass(frozen=True)
class Asked:
    """One artifact of the recipe: its name, and the options that it must have been built with."""

    target: str
    folder: Path
    options: Mapping[str, JsonValue]

    @property
    def format(self) -> str:
        """As the recipe has it."""
        return self.target.partition("-")[0]


def examine(
    recipe: Recipe, asked: Sequence[Asked], folder: Path, *, progress: Progress | None = None
) -> tuple[Report, tuple[Candidate, ...]]:
    """The report and the artifacts that may go out, each file hashed now; all of them, or a Failure."""
    waivers = _waivers(recipe, asked)
    if not any((each.folder / MANIFEST_NAME).is_file() for each in asked):
        named = ", ".join(each.target for each in asked)
        raise Failure(
            f"{named}: not built yet",
            f"modelwright convert {cli_name(recipe.path)}, then verify what it built",
        )
    report = _report(recipe, folder)
    results = {result.name: result for result in report.artifacts}
    unknown = [each.target for each in asked if each.target not in results]
    if unknown:
        raise Failure(
            f"{', '.join(unknown)}: not verified yet", f"modelwright verify {cli_name(recipe.path)}"
        )
    candidates = [
        _candidate(recipe, each, report, results[each.target], waivers=waivers.get(each.target, ()))
        for each in asked
    ]
    refusals = [problem for each in candidates for problem in _unwaived(recipe, each)]
    if refusals:
        raise Refusals(refusals)
    _compare_bytes(recipe, candidates, progress or Silent())
    return report, tuple(candidates)


def check_waivers(recipe: Recipe, targets: Collection[str]) -> None:
    """Refuse a waiver of an artifact that the recipe does not build: it would waive nothing, unnoticed."""
    for waiver in recipe.publish.waive if recipe.publish else ():
        if waiver.target is not None and waiver.target not in targets:
            raise UsageFailure(
                f"{recipe.path}: publish.waive: the recipe builds no {waiver.target}",
                f"it builds {', '.join(targets)}; without a target, a waiver is for all of them",
            )


def _waivers(recipe: Recipe, asked: Sequence[Asked]) -> dict[str, tuple[Waiver, ...]]:
    """The recipe's waivers, by the artifact that each is for."""
    wanted = recipe.publish.waive if recipe.publish else ()
    return {
        each.target: tuple(
            Waiver(waiver.gate, waiver.reason) for waiver in wanted if waiver.target in (None, each.target)
        )
        for each in asked
    }


def _report(recipe: Recipe, folder: Path) -> Report:
    """Read the recipe's report; it must be of this recipe, by today's checks and measurements."""
    again = f"modelwright verify {cli_name(recipe.path)}"
    if not (folder / REPORT_NAME).is_file():
        raise Failure(f"{folder / REPORT_NAME}: no report there, so nothing was verified yet", again)
    report = read_report(folder / REPORT_NAME)
    if report.revision != REVISION:
        raise Failure(
            f"{folder / REPORT_NAME}: modelwright {report.tool} made it by other checks or measurements",
            again,
        )
    if report.recipe_sha256 != recipe.asked_sha256:
        what = "the recipe's model, targets or verify: changed since" if report.recipe else "of no recipe"
        raise Failure(f"{folder / REPORT_NAME}: {what}", again)
    return report


def _candidate(
    recipe: Recipe, asked: Asked, report: Report, result: ArtifactResult, *, waivers: Iterable[Waiver]
) -> Candidate:
    """The artifact with what is said of it; what was verified must be what stands there."""
    manifest = read_manifest(asked.folder)
    digest = hashlib.sha256((asked.folder / MANIFEST_NAME).read_bytes()).hexdigest()
    if digest != result.manifest_sha256:
        raise Failure(
            f"{asked.target}: built anew since it was verified", f"modelwright verify {cli_name(recipe.path)}"
        )
    _require_current(recipe, asked, manifest)
    if digest_of_all({entry.path: entry.sha256 for entry in manifest.source.files}) != report.source.digest:
        raise Failure(
            f"{asked.target}: held against another source than it was built from",
            f"modelwright convert {cli_name(recipe.path)}, then verify it",
        )
    lacking = {name for name, _ in _lacking(recipe, manifest, result)}
    return Candidate(
        target=asked.target,
        folder=asked.folder,
        manifest=manifest,
        manifest_sha256=digest,
        result=result,
        waived=tuple(waiver for waiver in waivers if waiver.gate in lacking),
    )


def _require_current(recipe: Recipe, asked: Asked, manifest: Manifest) -> None:
    if manifest.format_revision != find_format(manifest.format).REVISION:
        built = manifest.tools.get("modelwright")
        what = f"built by modelwright {built}, and the bytes of {manifest.format} have changed since"
    elif manifest.target != asked.target or manifest.options != dict(asked.options):
        what = "built with other options than the recipe's"
    else:
        return
    raise Failure(f"{asked.target}: {what}", f"modelwright convert {cli_name(recipe.path)}, then verify it")


def _lacking(recipe: Recipe, manifest: Manifest, result: ArtifactResult) -> Iterator[tuple[str, str]]:
    """Everything that keeps an artifact from having passed, with the reason in words."""
    for check in result.failures:
        yield check.name, check.why
    judged = {check.name: check.limit for check in result.checks}
    limits = limits_for(recipe.verify.gates, manifest.target)
    for gate in GATES:
        limit = getattr(limits, gate.name)
        if limit is None:
            continue
        if gate.name not in judged:
            yield gate.name, "it was not measured, and the recipe sets a limit"
        elif judged[gate.name] != limit:
            yield gate.name, f"it was held to {judged[gate.name]}, and the recipe's limit is {limit}"
    if not result.checks:
        yield "checks", "nothing was looked at"


def _unwaived(recipe: Recipe, candidate: Candidate) -> Iterator[Refused]:
    waived = {waiver.gate for waiver in candidate.waived}
    for name, why in _lacking(recipe, candidate.manifest, candidate.result):
        if name in waived and name in GATE_NAMES:
            continue
        hint = (
            f"leave it out with --only, or waive it: `publish: {{waive: [{{gate: {name}, reason: …}}]}}`"
            if name in GATE_NAMES
            else f"modelwright convert {cli_name(recipe.path)}, then verify it; this cannot be waived"
        )
        yield Refused(f"{candidate.target}: {name}: {why}", hint)


def _compare_bytes(recipe: Recipe, candidates: Sequence[Candidate], progress: Progress) -> None:
    """Hash every file now: what was verified yesterday may have been touched since."""
    total = sum(candidate.manifest.size_bytes for candidate in candidates)
    with progress.stage("check", total) as advance:
        for candidate in candidates:
            found = inspect_artifact(candidate.folder, verify=True, progress=advance)
            wrong = [each for each in found.differences if each.flaw is not Flaw.EXTRA]
            if wrong:
                raise Failure(
                    f"{candidate.folder / wrong[0].path}: {wrong[0].flaw}, and it is not what was verified",
                    _rebuilding(recipe, wrong[0].flaw),
                )


def _rebuilding(recipe: Recipe, flaw: Flaw) -> str:
    """How a damaged artifact becomes a sound one."""
    if flaw is Flaw.SHA256:
        return f"{REBUILT}; then verify it"
    return f"modelwright convert {cli_name(recipe.path)}, then verify it"

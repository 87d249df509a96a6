"""Turn artifacts that may be published into repos, with every file known to the byte."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convert.errors import Failure
from convert.pick.known import Known
from convert.publish import repo
from convert.publish.bundle import Bundle, Candidate, Origin
from convert.publish.existing import Existing
from convert.recipe import Publish, Recipe, Target
from convert.recipe.redact import redact_all
from verify.report import NAME as REPORT_NAME
from verify.report import Report

Files = Mapping[str, bytes]  # by path, or by name


@dataclass(frozen=True)
class Makers:
    """What makes the files that no artifact brings along: the same bytes for the same artifacts."""

    attest: Callable[[Candidate, Files], Files]  # attests an artifact and its other documents
    render: Callable[[Bundle], Files]  # the card and what belongs to it
    release: Callable[[Bundle], Files]  # attests the repo as a whole, so it is made last


def assemble(
    recipe: Recipe,
    wanted: Publish,
    report: Report,
    candidates: Sequence[Candidate],
    *,
    user: str,
    source_card: Mapping[str, Any],
    makers: Makers,
    left_out: Sequence[Target] = (),
    existing: Existing | None = None,
    origin_of: Callable[[str, str], Origin] = lambda *_: Origin(),
    model: Known | None = None,
) -> tuple[Bundle, ...]:
    """Make a bundle for each repo, by name; paths are the same whether or not artifacts are left out."""
    existing = existing or Existing()
    name_of = repo.namer(recipe, wanted, user, candidates[0].manifest)
    others = repo.by_repo(left_out, name_of)
    bundles = []
    for name, members in sorted(repo.by_repo(candidates, name_of).items()):
        placed = repo.placed(members, is_alone=len(members) + len(others[name]) == 1)
        bundle = Bundle(
            repo=name,
            title=repo.title(placed[0].manifest, recipe.name),
            suffix=", ".join(sorted(set(map(repo.suffix, placed)))),
            candidates=placed,
            report=report.model_copy(update={"artifacts": tuple(each.result for each in placed)}),
            source_card=source_card,
            files=repo.files(placed),
            is_private=wanted.private,
            revision=wanted.branch,
            tag=wanted.tag,
            is_pull_request=wanted.pull_request,
            collection=wanted.collection,
            kept=existing.kept.get(name, ()),
            head=existing.heads.get(name),
            other_formats=frozenset(each.format_name for each in others[name])
            - {each.manifest.format for each in placed},
            origin=origin_of(name, wanted.branch),
            model=model,
            options=recipe.targets,
        )
        bundles.append(_completed(bundle, makers))
    return tuple(bundles)


def _completed(bundle: Bundle, makers: Makers) -> Bundle:
    """Add each artifact's report and attestation, then the card, then the attestation of the repo."""
    for candidate in bundle.candidates:
        report = {REPORT_NAME: _report_of(bundle.report, candidate)}
        documents = {**report, **makers.attest(candidate, report)}
        bundle = bundle.with_made({f"{candidate.documents}{file}": data for file, data in documents.items()})
    bundle = bundle.with_made(makers.render(bundle))
    bundle = bundle.with_made(makers.release(bundle))
    _require_distinct_paths(bundle)
    return bundle


def _report_of(report: Report, candidate: Candidate) -> bytes:
    """Write the report of this artifact alone, and of the source that it was compared with.

    What runtimes and models say of folders and secrets is left out, as it is on the card.
    """
    own = redact_all(report.model_copy(update={"artifacts": (candidate.result,)}).as_dict())
    return f"{json.dumps(own, ensure_ascii=False, indent=1, allow_nan=False)}\n".encode()


def _require_distinct_paths(bundle: Bundle) -> None:
    """Refuse names that differ in case alone, which are one file on some systems, and a file for a folder."""
    paths = {file.path for file in bundle.files}
    folders = {path[:at] for path in paths for at, mark in enumerate(path) if mark == "/"}
    seen: dict[str, str] = {folder.lower(): folder for folder in folders}
    for path in sorted(paths):
        other = seen.setdefault(path.lower(), path)
        if other != path or path in folders:
            raise Failure(
                f"{bundle.repo}: {path} and {other} cannot both be there",
                "name another repo for one of them in publish.repo, with {target}",
            )

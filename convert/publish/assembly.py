"""From artifacts that may go out to the repos that they make, each file of them known to the byte."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from convert.errors import Failure
from convert.publish import repo
from convert.publish.bundle import Bundle, Candidate
from verify.report import NAME as REPORT_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from convert.publish.bundle import Kept
    from convert.publish.repo import Member
    from convert.recipe import Publish, Recipe
    from verify.report import Report


class Attest(Protocol):
    """What vouches for an artifact: files that go beside its manifest, by name."""

    def __call__(self, candidate: Candidate, *, beside: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """Make them, to vouch also for what else lies there; the same bytes for the same artifact."""


class Render(Protocol):
    """What a repo is read by: its card and what belongs to it, by path in the repo."""

    def __call__(self, bundle: Bundle) -> Mapping[str, bytes]:
        """Make them; the same bytes for the same bundle."""


class Release(Protocol):
    """What vouches for the repo as a whole; made last, it tells of every other file."""

    def __call__(self, bundle: Bundle) -> Mapping[str, bytes]:
        """Make it; the same bytes for the same bundle."""


@dataclass(frozen=True)
class Makers:
    """What makes the files that no artifact brings along."""

    attest: Attest
    render: Render
    release: Release


def assemble(
    recipe: Recipe,
    wanted: Publish,
    report: Report,
    candidates: Sequence[Candidate],
    *,
    user: str,
    source_card: Mapping[str, Any],
    makers: Makers,
    left_out: Sequence[Member] = (),
    kept: Mapping[str, tuple[Kept, ...]] | None = None,
) -> tuple[Bundle, ...]:
    """A bundle for each repo, by name; in each everything lies where it would if nothing were left out."""
    model = repo.title(candidates[0].manifest, recipe.name)

    def name_of(member: Member) -> str:
        return repo.repo_name(wanted, user, model, member.suffix)

    groups: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        groups[name_of(repo.Member.of(candidate))].append(candidate)
    others: dict[str, list[Member]] = defaultdict(list)
    for member in left_out:
        others[name_of(member)].append(member)
    bundles = []
    for name, members in sorted(groups.items()):
        found = repo.placed(members, is_alone=len(members) + len(others[name]) == 1)
        formats = {each.manifest.format for each in members}
        bundle = replace(
            _gathered(recipe, wanted, report, name, found),
            source_card=source_card,
            kept=(kept or {}).get(name, ()),
            other_formats=frozenset(each.format for each in others[name]) - formats,
        )
        bundles.append(_completed(bundle, makers))
    return tuple(bundles)


def _gathered(
    recipe: Recipe, wanted: Publish, report: Report, name: str, candidates: tuple[Candidate, ...]
) -> Bundle:
    """The repo with the artifacts' own files."""
    manifest = candidates[0].manifest
    suffixes = {repo.Member.of(candidate).suffix for candidate in candidates}
    return Bundle(
        repo=name,
        title=repo.title(manifest, recipe.name),
        suffix=", ".join(sorted(suffixes)),
        candidates=candidates,
        report=report.model_copy(update={"artifacts": tuple(each.result for each in candidates)}),
        files=repo.files(candidates),
        is_private=wanted.private,
        revision=wanted.branch,
        tag=wanted.tag,
        is_pull_request=wanted.pull_request,
        collection=wanted.collection,
    )


def _completed(bundle: Bundle, makers: Makers) -> Bundle:
    """The repo with what tells of them: for each a report and what vouches for it, the card, the release."""
    for candidate in bundle.candidates:
        told = {REPORT_NAME: _report_of(bundle.report, candidate)}
        own = {**told, **makers.attest(candidate, beside=told)}
        bundle = bundle.with_made({f"{candidate.documents}{file}": data for file, data in own.items()})
    bundle = bundle.with_made(makers.render(bundle))
    bundle = bundle.with_made(makers.release(bundle))
    _require_one_reading(bundle)
    return bundle


def _report_of(report: Report, candidate: Candidate) -> bytes:
    """What was found of this artifact, and of the source that it was held against."""
    own = report.model_copy(update={"artifacts": (candidate.result,)})
    return f"{json.dumps(own.as_dict(), ensure_ascii=False, indent=1, allow_nan=False)}\n".encode()


def _require_one_reading(bundle: Bundle) -> None:
    """Names that differ in their case alone are one file on some systems, and a file cannot be a folder."""
    paths = {file.path for file in bundle.files}
    folders = {path[:at] for path in paths for at, mark in enumerate(path) if mark == "/"}
    seen: dict[str, str] = {folder.lower(): folder for folder in folders}
    for path in sorted(paths):
        other = seen.setdefault(path.lower(), path)
        if other != path or path in folders:
            raise Failure(
                f"{bundle.repo}: {path} and {other} cannot both lie there",
                "name another repo for one of them in publish.repo, with {target}",
            )

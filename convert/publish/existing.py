"""List the artifacts already in the target repos: --only must not make them vanish from the card."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from convert.errors import Failure
from convert.publish import repo
from convert.publish.bundle import ROOT, Candidate, Kept
from convert.publish.destination import Contents
from convert.publish.gate import examine
from convert.publish.provenance.statement import PROVENANCE_NAME
from convert.publish.publication import Publication
from convert.recipe import Target
from convert.store import MANIFEST_NAME

# What our own targets' folders are called; anybody may have put anything there, and the card links to it.
_FOLDER = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?", re.ASCII)


@dataclass(frozen=True)
class Existing:
    """What was found, by the names of the repos."""

    heads: dict[str, str | None] = field(default_factory=dict)  # of the repos that were looked at
    verified: list[Candidate] = field(default_factory=list)
    kept: dict[str, tuple[Kept, ...]] = field(default_factory=dict)


def find_existing(
    publication: Publication, candidates: Sequence[Candidate], left_out: Sequence[Target]
) -> Existing:
    """Look at every repo that something goes to."""
    destination, wanted = publication.destination, publication.wanted
    if destination is None:
        return Existing()
    name_of = repo.namer(publication.recipe, wanted, publication.user, candidates[0].manifest)
    going, others = repo.by_repo(candidates, name_of), repo.by_repo(left_out, name_of)
    found = Existing()
    for name in sorted(going):
        contents = destination.look(name, wanted.branch)
        found.heads[name] = contents.head
        verified, kept = _sorted(publication, name, contents, going[name], others[name])
        found.verified.extend(verified)
        found.kept[name] = kept
    return found


def _sorted(
    publication: Publication,
    name: str,
    contents: Contents,
    going: Sequence[Candidate],
    others: Sequence[Target],
) -> tuple[list[Candidate], tuple[Kept, ...]]:
    """Tell what can be verified in one repo from what is only kept."""
    is_alone = len(going) + len(others) == 1
    unclaimed = _folders(contents.paths) - {repo.folders(each, is_alone=is_alone)[1] for each in going}
    verified: list[Candidate] = []
    why: dict[str, str] = {}
    for target in others:
        folder = repo.folders(target, is_alone=is_alone)[1]
        if folder not in unclaimed:
            if (root := repo.folders(target, is_alone=True)[1]) in unclaimed:
                why[root] = "it was published as the only artifact of its repo"
            continue
        try:
            verified.append(_verified(publication, target, contents))
            unclaimed.remove(folder)
        except Failure as failure:
            why[folder] = failure.message.splitlines()[0].removeprefix(f"{target.name}: ")
    if why and not contents.keeps_others:
        named = " and ".join(map(_shown, sorted(why)))
        raise Failure(
            f"{name}: the current release has {named}; the new one would drop it: {min(why.values())}",
            "rebuild it here as it is there, or publish all targets, without --only",
        )
    kept = [
        Kept(_shown(folder), contents.paths, why.get(folder, "the recipe has no such target"))
        for folder in sorted(unclaimed)
    ]
    return verified, tuple(kept) if contents.keeps_others else ()


def _verified(publication: Publication, target: Target, contents: Contents) -> Candidate:
    """Return the artifact as it is here, if it passed and the repo has the same."""
    _, (candidate,) = examine(publication.recipe, [target], publication.folder, progress=publication.progress)
    (there,) = repo.placed([candidate], is_alone=False)
    if not all(map(contents.has, repo.files([there]))):
        raise Failure("the repo's files are not those of the artifact here")
    return candidate


def _folders(paths: Iterable[str]) -> set[str]:
    """Find the folders that hold this program's documents of an artifact."""
    held = frozenset(paths)
    found = (path.removesuffix(MANIFEST_NAME) for path in held if f"/{path}".endswith(f"/{MANIFEST_NAME}"))
    return {folder for folder in found if _FOLDER.fullmatch(folder) and f"{folder}{PROVENANCE_NAME}" in held}


def _shown(folder: str) -> str:
    return folder.rstrip("/") or ROOT

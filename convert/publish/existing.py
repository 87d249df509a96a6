"""What stands in a repo beside what goes out: described still where that can be vouched for, and else named.

Whoever publishes one artifact with --only does not want the others to vanish from the card. Those of them
that stand here as they stand there, and passed, are told of as before. Of any other the card says that it is
there, and where its own documents lie.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.publish import repo
from convert.publish.bundle import ROOT, Kept
from convert.publish.gate import examine
from convert.publish.provenance import PROVENANCE_NAME
from convert.store import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from convert.progress import Progress
    from convert.publish.bundle import Candidate
    from convert.publish.destination import Contents, Destination
    from convert.publish.gate import Asked
    from convert.recipe import Publish, Recipe

# As our own targets' folders are called; anybody may have put anything there, and the card links to it.
_FOLDER = re.compile(r"(?:[A-Za-z0-9][\w.-]{0,95}/)?", re.ASCII)
_OTHER_BYTES = "what stands there is not what stands here"
_NOT_ASKED = "the recipe has no such target"
_ALONE = "it lies as what is alone in its repo"


@dataclass
class Beside:
    """What was found, for each repo by its name."""

    heads: dict[str, str | None] = field(default_factory=dict)  # what was looked at
    joining: list[Candidate] = field(default_factory=list)
    kept: dict[str, tuple[Kept, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """What is asked of each repo."""

    recipe: Recipe
    wanted: Publish
    user: str
    folder: Path  # of the recipe's artifacts
    progress: Progress

    def run(self, place: Destination, going: Sequence[Candidate], left_out: Sequence[Asked]) -> Beside:
        """Look at every repo that something goes to."""
        model, found = repo.title(going[0].manifest, self.recipe.name), Beside()

        def name_of(member: repo.Member) -> str:
            return repo.repo_name(self.wanted, self.user, model, member.suffix)

        members: dict[str, list[repo.Member]] = defaultdict(list)
        others: dict[str, list[Asked]] = defaultdict(list)
        for candidate in going:
            member = repo.Member.of(candidate)
            members[name_of(member)].append(member)
        for asked in left_out:
            others[name_of(repo.Member.asked(asked))].append(asked)
        for name in sorted(members):
            standing = place.look(name, self.wanted.branch)
            found.heads[name] = standing.head
            self._sort(found, name, standing, members[name], others[name])
        return found

    def _sort(
        self,
        found: Beside,
        name: str,
        standing: Contents,
        members: Sequence[repo.Member],
        others: Sequence[Asked],
    ) -> None:
        """Tell apart what can be vouched for and what can not, in one repo."""
        is_alone = len(members) + len(others) == 1
        unclaimed = _folders(standing.paths) - _documents(members, is_alone=is_alone)
        why: dict[str, str] = {}
        for asked in others:
            member = repo.Member.asked(asked)
            (folder,) = _documents([member], is_alone=is_alone)
            if folder not in unclaimed:
                before = _documents([member], is_alone=True) & unclaimed
                why |= dict.fromkeys(before, _ALONE)
                continue
            try:
                found.joining.append(self._vouched(asked, standing))
                unclaimed -= {folder}
            except Failure as failure:
                why[folder] = failure.message.splitlines()[0].removeprefix(f"{asked.target}: ")
        if why and not standing.keeps_others:
            named = " and ".join(map(_shown, sorted(why)))
            raise Failure(
                f"{name}: {named} stands there, and would not in the new release: {min(why.values())}",
                "make it stand here as it stands there, or publish all anew, without --only",
            )
        if standing.keeps_others:
            found.kept[name] = tuple(
                Kept(_shown(folder), standing.paths, why.get(folder, _NOT_ASKED))
                for folder in sorted(unclaimed)
            )

    def _vouched(self, asked: Asked, standing: Contents) -> Candidate:
        """The artifact as it stands here, where it passed and the repo has the same."""
        _, (candidate,) = examine(self.recipe, [asked], self.folder, progress=self.progress)
        (there,) = repo.placed([candidate], is_alone=False)
        if not all(map(standing.has, repo.files([there]))):
            raise Failure(_OTHER_BYTES)
        return candidate


def _folders(paths: Iterable[str]) -> set[str]:
    """The folders in which this program's documents of an artifact lie."""
    held = frozenset(paths)
    found = (path.removesuffix(MANIFEST_NAME) for path in held if f"/{path}".endswith(f"/{MANIFEST_NAME}"))
    return {folder for folder in found if _FOLDER.fullmatch(folder) and f"{folder}{PROVENANCE_NAME}" in held}


def _shown(folder: str) -> str:
    return folder.rstrip("/") or ROOT


def _documents(members: Iterable[repo.Member], *, is_alone: bool) -> set[str]:
    return {member.folders(is_alone=is_alone)[1] for member in members}

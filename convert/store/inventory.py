"""What stands in artifacts/: listed, inspected, and cleared of what is of no use."""

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from convert.errors import Failure
from convert.store.digest import Progress, digest_files
from convert.store.fault import explained
from convert.store.lock import in_turn
from convert.store.manifest import (
    MANIFEST_NAME,
    DamagedManifest,
    Manifest,
    inside,
    read_manifest,
)
from convert.store.paths import Removed, Shelf
from convert.store.staging import berth_for_removal, sweep, tree_bytes

# Said where a byte differs and no size does, for `convert` would answer that everything is up to date.
REBUILT = "a damaged artifact is built anew once its folder is removed: `convert` compares sizes alone"


class State(StrEnum):
    """Whether an artifact can be relied on, as far as can be told without reading it all."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # the manifest is sound, the files are not those it names
    DAMAGED = "damaged"  # the manifest itself is not
    UNKNOWN = "unknown"  # written by a version that knows more, or closed to us: not ours to judge


@dataclass(frozen=True)
class Listed:
    """One artifact that stands, or what is left of one."""

    recipe: str
    target: str
    path: Path
    size_bytes: int
    state: State
    key: str | None
    problem: str | None
    manifest: Manifest | None


class Flaw(StrEnum):
    """How a file differs from what its manifest says."""

    MISSING = "missing"
    NOT_A_FILE = "not a file"
    SIZE = "size differs"
    SHA256 = "sha256 differs"
    EXTRA = "not in the manifest"


@dataclass(frozen=True)
class Difference:
    """One file that is not what the manifest says, or that it does not tell of."""

    path: str
    flaw: Flaw


@dataclass(frozen=True)
class ArtifactReport:
    """What `inspect` says about an artifact; without `is_verified` no file's content was read."""

    path: Path
    manifest: Manifest
    size_bytes: int
    is_verified: bool
    differences: tuple[Difference, ...]

    @property
    def is_sound(self) -> bool:
        """Every file is there and as described; files beside them do no harm."""
        return all(each.flaw is Flaw.EXTRA for each in self.differences)


def misses(folder: Path, manifest: Manifest) -> Iterator[Difference]:
    """The manifest's files that are absent or of another size: milliseconds, no content read."""
    for entry in manifest.files:
        try:
            about = inside(folder, entry.path).lstat()
        except (FileNotFoundError, NotADirectoryError):
            yield Difference(entry.path, Flaw.MISSING)
            continue
        if not stat.S_ISREG(about.st_mode):
            yield Difference(entry.path, Flaw.NOT_A_FILE)
        elif about.st_size != entry.size_bytes:
            yield Difference(entry.path, Flaw.SIZE)


def list_artifacts(root: Path) -> tuple[Listed, ...]:
    """Every folder below `root` that holds a manifest, damaged ones reported as such."""
    with explained(root):
        folders = [
            target
            for recipe in (_folders(root) if root.is_dir() else [])
            for target in _folders(recipe)
            if os.path.lexists(target / MANIFEST_NAME)
        ]
        return tuple(_listed(folder) for folder in folders)


def inspect_artifact(
    folder: Path, *, verify: bool = False, threads: int | None = None, progress: Progress | None = None
) -> ArtifactReport:
    """The manifest of one artifact and how its files differ from it; `verify` reads and hashes them all."""
    manifest = read_manifest(folder)
    with explained(folder):
        differences = list(misses(folder, manifest))
        differences += (Difference(name, Flaw.EXTRA) for name in _extra(folder, manifest))
        if verify:
            unfit = {each.path for each in differences}
            expected = {inside(folder, each.path): each for each in manifest.files if each.path not in unfit}
            for path, digest in digest_files(expected, threads=threads, progress=progress).items():
                if digest.sha256 != expected[path].sha256:
                    differences.append(Difference(expected[path].path, Flaw.SHA256))
    return ArtifactReport(
        path=folder,
        manifest=manifest,
        size_bytes=manifest.size_bytes,
        is_verified=verify,
        differences=tuple(sorted(differences, key=lambda each: each.path)),
    )


def clean(
    root: Path, *, dry_run: bool = False, keep: Callable[[str], bool] | None = None
) -> tuple[Removed, ...]:
    """Remove what killed builds left, artifacts that cannot be used, and those of recipes not to `keep`.

    Folders without a manifest were not made here and stay; so do those that a newer version wrote.
    """
    shelf = Shelf(root)
    removed = list(sweep(shelf, dry_run=dry_run))
    for listed in list_artifacts(root):
        why = _reason(listed, keep)
        if why is not None and not dry_run:
            why = _take_away(shelf, listed.path, keep)
        if why is not None:
            removed.append(Removed(listed.path, why, listed.size_bytes))
    return tuple(removed)


def _take_away(shelf: Shelf, folder: Path, keep: Callable[[str], bool] | None) -> str | None:
    """Rename out of sight first, so that nobody meets an artifact half removed."""
    with berth_for_removal(shelf, folder.parent.name, folder.name) as away, explained(folder):
        with in_turn(shelf.turn):
            if not folder.is_dir():
                return None
            why = _reason(_listed(folder), keep)  # a build may have put a sound one here meanwhile
            if why is None:
                return None
            folder.rename(away)
            if not any(folder.parent.iterdir()):
                folder.parent.rmdir()
        return why


def _reason(listed: Listed, keep: Callable[[str], bool] | None) -> str | None:
    if listed.state in {State.DAMAGED, State.INCOMPLETE}:
        return listed.problem or listed.state
    if keep is not None and not keep(listed.recipe):
        return f"there is no recipe {listed.recipe!r} any more"
    return None


def _listed(folder: Path) -> Listed:
    def as_found(state: State, manifest: Manifest | None, problem: str | None) -> Listed:
        return Listed(
            recipe=folder.parent.name,
            target=folder.name,
            path=folder,
            size_bytes=tree_bytes(folder),
            state=state,
            key=manifest.key if manifest else None,
            problem=problem,
            manifest=manifest,
        )

    try:
        manifest = read_manifest(folder)
    except DamagedManifest as failure:
        return as_found(State.DAMAGED, None, failure.message)
    except Failure as failure:
        return as_found(State.UNKNOWN, None, failure.message)
    first = next(misses(folder, manifest), None)
    if first is not None:
        return as_found(State.INCOMPLETE, manifest, f"{folder / first.path}: {first.flaw}")
    return as_found(State.COMPLETE, manifest, None)


def _extra(folder: Path, manifest: Manifest) -> list[str]:
    named = {entry.path for entry in manifest.files} | {MANIFEST_NAME}
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(set(found) - named)


def _folders(folder: Path) -> list[Path]:
    return sorted(
        each
        for each in folder.iterdir()
        if not each.name.startswith(".") and each.is_dir() and not each.is_symlink()
    )

"""The artifacts below a folder: list, inspect and clean them."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from convert.errors import Failure
from convert.store.digest import Progress, digest_files
from convert.store.fault import explained
from convert.store.lock import locked
from convert.store.manifest import MANIFEST_NAME, DamagedManifest, Manifest, inside, read_manifest
from convert.store.part import sweep_parts
from convert.store.paths import Paths, Removed
from convert.store.staging import removal, sweep, tree_bytes

# No file is there, or could be: a stranger's manifest may name what no file system has.
_CANNOT_BE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL})
# The hint where a byte differs and no size does: `convert` would answer that everything is up to date.
REBUILT = "remove the artifact's folder and convert again, since `convert` compares only sizes"


class State(StrEnum):
    """The condition of an artifact, as far as it shows without reading all of it."""

    COMPLETE = "complete"
    INCOMPLETE = "incomplete"  # the manifest is sound, but files are missing or have other sizes
    DAMAGED = "damaged"  # the manifest cannot be read
    UNKNOWN = "unknown"  # written by a newer version, or not readable by this user


@dataclass(frozen=True)
class Listed:
    """An artifact that was found, complete or not."""

    recipe: str
    target: str
    path: Path
    size_bytes: int
    state: State
    key: str | None
    problem: str | None


class Flaw(StrEnum):
    """The way in which a file differs from its manifest entry."""

    MISSING = "missing"
    NOT_A_FILE = "not a file"
    SIZE = "size differs"
    SHA256 = "sha256 differs"
    EXTRA = "not in the manifest"


@dataclass(frozen=True)
class Difference:
    """One file that differs from the manifest, or is not in it."""

    path: str
    flaw: Flaw


@dataclass(frozen=True)
class ArtifactReport:
    """The result of `inspect` for an artifact; file contents were read only if `is_verified`."""

    path: Path
    manifest: Manifest
    size_bytes: int
    is_verified: bool
    differences: tuple[Difference, ...]

    @property
    def is_sound(self) -> bool:
        """Say whether every file is as the manifest describes it; further files do no harm."""
        return all(each.flaw is Flaw.EXTRA for each in self.differences)


def missing_files(folder: Path, manifest: Manifest) -> Iterator[Difference]:
    """Find the manifest's files that are missing or of another size; no content is read."""
    for entry in manifest.files:
        try:
            about = inside(folder, entry.path).lstat()
        except OSError as error:
            if error.errno not in _CANNOT_BE:
                raise
            yield Difference(entry.path, Flaw.MISSING)
            continue
        if not stat.S_ISREG(about.st_mode):
            yield Difference(entry.path, Flaw.NOT_A_FILE)
        elif about.st_size != entry.size_bytes:
            yield Difference(entry.path, Flaw.SIZE)


def list_artifacts(root: Path) -> tuple[Listed, ...]:
    """List every folder below `root` that holds a manifest, damaged ones too."""
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
    """Compare an artifact's files with its manifest; `verify` reads and hashes all of them."""
    manifest = read_manifest(folder)
    with explained(folder):
        differences = list(missing_files(folder, manifest))
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
        extra = found - {entry.path for entry in manifest.files} - {MANIFEST_NAME}
        differences += (Difference(name, Flaw.EXTRA) for name in extra)
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
    paths = Paths(root)
    removed = [*sweep(paths, dry_run=dry_run), *sweep_parts(paths, dry_run=dry_run)]
    for listed in list_artifacts(root):
        why = _reason(listed, keep)
        if why is not None and not dry_run:
            why = _remove_artifact(paths, listed.path, keep)
        if why is not None:
            removed.append(Removed(listed.path, why, listed.size_bytes))
    return tuple(removed)


def _remove_artifact(paths: Paths, folder: Path, keep: Callable[[str], bool] | None) -> str | None:
    """Rename it to a hidden folder first, so that no one sees an artifact half removed."""
    with removal(paths, folder.parent.name, folder.name) as away, explained(folder):
        with locked(paths.lock):
            if not folder.is_dir():
                return None
            why = _reason(_listed(folder), keep)  # a build may have put a sound one here since
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
    manifest, state, problem = None, State.COMPLETE, None
    try:
        manifest = read_manifest(folder)
        if first := next(missing_files(folder, manifest), None):
            state, problem = State.INCOMPLETE, f"{folder / first.path}: {first.flaw}"
    except DamagedManifest as failure:
        state, problem = State.DAMAGED, failure.message
    except Failure as failure:
        state, problem = State.UNKNOWN, failure.message
    key = manifest.key if manifest else None
    return Listed(folder.parent.name, folder.name, folder, tree_bytes(folder), state, key, problem)


def _folders(folder: Path) -> list[Path]:
    return sorted(
        each
        for each in folder.iterdir()
        if not each.name.startswith(".") and each.is_dir() and not each.is_symlink()
    )

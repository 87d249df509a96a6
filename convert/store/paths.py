"""The paths below an artifacts folder: artifacts/<recipe>/<target>, and artifacts/.staging for builds."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from convert.errors import Failure, UsageFailure
from convert.store.fault import explained
from convert.store.manifest import MANIFEST_NAME

_LONGEST_NAME_BYTES = 100  # two names, a process id and a random number make one file name of at most 255


@dataclass(frozen=True)
class Removed:
    """A folder that was removed, or would be, and why."""

    path: Path | str  # an address in an object store
    why: str
    size_bytes: int


@dataclass(frozen=True)
class Paths:
    """The paths below one artifacts folder."""

    root: Path

    @property
    def staging(self) -> Path:
        """Return the folder where artifacts are built: on the file system that they are renamed within."""
        return self.root / ".staging"

    @property
    def lock(self) -> Path:
        """Return the lock under which finished artifacts are moved."""
        return self.staging / ".turn"

    def lessons(self, identity: str) -> Path:
        """Return the folder for what is learned of a source, until the artifacts are built."""
        return self.root / ".lessons" / identity

    def folder(self, recipe: str, target: str) -> Path:
        """Return the folder of this artifact, built or not."""
        return self.root / checked_name(recipe, "recipe") / checked_name(target, "target")

    def require_free(self, recipe: str, target: str) -> None:
        """Refuse, before hours of work, to build where something else is that we must not replace."""
        target_folder = self.folder(recipe, target)
        with explained(self.root):
            existing = next(each for each in (self.root, *self.root.parents) if each.exists())
            if not existing.is_dir():
                raise _occupied(existing)
        for folder in (self.staging, target_folder.parent, target_folder):
            with explained(folder):
                try:
                    mode = folder.lstat().st_mode
                except FileNotFoundError:
                    continue
            if stat.S_ISLNK(mode):
                raise Failure(
                    f"{folder}: a symbolic link, and an artifact is renamed into place, not through links",
                    f"remove the link; to keep artifacts elsewhere, link or name {self.root} as a whole",
                )
            if not stat.S_ISDIR(mode):
                raise _occupied(folder)
        with explained(target_folder):
            is_used = target_folder.exists() and any(target_folder.iterdir())
            if is_used and not os.path.lexists(target_folder / MANIFEST_NAME):
                raise Failure(
                    f"{target_folder}: holds files but no {MANIFEST_NAME}, so it was not made here",
                    "move that folder away, or choose another with --out",
                )


def _occupied(folder: Path) -> Failure:
    return Failure(
        f"{folder}: a file is where a folder is needed",
        "move that file away, or choose another folder with --out",
    )


def checked_name(name: str, what: str) -> str:
    """Return the name of a recipe or a target; refuse one that cannot be a folder's."""
    if not name or name.startswith((".", "-")) or name != name.strip():
        problem, hint = "cannot name a folder", "begin it with a letter or a digit"
    elif any(mark in "/\\:" or not mark.isprintable() for mark in name):
        problem, hint = "cannot name a folder", "leave out slashes, colons and control characters"
    elif len(name.encode()) > _LONGEST_NAME_BYTES:
        problem, hint = "is too long", f"keep it to {_LONGEST_NAME_BYTES} bytes of UTF-8"
    else:
        return name
    raise UsageFailure(f"{what} name {name!r} {problem}", hint)

"""Where artifacts stand: artifacts/<recipe>/<target>, and the room beside them where they are made."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from convert.errors import Failure, UsageFailure
from convert.store.fault import explained
from convert.store.manifest import MANIFEST_NAME

_STAGING = ".staging"
_LONGEST_NAME_BYTES = 100  # two names, a process id and a random number make one file name of at most 255


@dataclass(frozen=True)
class Removed:
    """What was removed, or would be."""

    path: Path
    why: str
    size_bytes: int


@dataclass(frozen=True)
class Shelf:
    """The paths below one artifacts folder, and what may not stand in their way."""

    root: Path

    @property
    def staging(self) -> Path:
        """Where artifacts are made: the same file system as where they will stand."""
        return self.root / _STAGING

    @property
    def turn(self) -> Path:
        """The lock under which artifacts change places."""
        return self.staging / ".turn"

    def place(self, recipe: str, target: str) -> Path:
        """Where this artifact stands, or will."""
        return self.root / checked_name(recipe, "recipe") / checked_name(target, "target")

    def open(self) -> None:
        """Make the folders that a build needs."""
        with explained(self.root):
            self.staging.mkdir(parents=True, exist_ok=True)

    def require_free(self, recipe: str, target: str) -> None:
        """Refuse to build where something stands that is not ours to replace."""
        place = self.place(recipe, target)
        with explained(self.root):
            standing = next(each for each in (self.root, *self.root.parents) if each.exists())
            if not standing.is_dir():
                raise _occupied(standing)
        for folder in (self.staging, place.parent, place):
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
        with explained(place):
            if place.exists() and any(place.iterdir()) and not os.path.lexists(place / MANIFEST_NAME):
                raise Failure(
                    f"{place}: holds files but no {MANIFEST_NAME}, so it was not made here",
                    "move that folder away, or choose another with --out",
                )


def _occupied(folder: Path) -> Failure:
    return Failure(
        f"{folder}: a file stands where a folder is needed",
        "move that file away, or choose another folder with --out",
    )


def checked_name(name: str, what: str) -> str:
    """The name of a recipe or a target, fit to be a folder's."""
    if not name or name.startswith((".", "-")) or name != name.strip():
        raise UsageFailure(f"{what} name {name!r} cannot name a folder", "begin it with a letter or a digit")
    if any(mark in "/\\:" or not mark.isprintable() for mark in name):
        raise UsageFailure(
            f"{what} name {name!r} cannot name a folder", "leave out slashes, colons and control characters"
        )
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        raise UsageFailure(
            f"{what} name {name!r} is too long", f"keep it to {_LONGEST_NAME_BYTES} bytes of UTF-8"
        )
    return name

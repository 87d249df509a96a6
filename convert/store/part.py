"""Artifacts that several machines fill together, in a folder that all of them see.

Each machine writes its part of the planned files in place, and a mark when that is on the disk. When all
marks are there the artifacts are assembled. The folder's name is a digest of what decides the bytes, so that
parts of another source, recipe or version never meet.
"""

import hashlib
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from convert.store.digest import sync
from convert.store.fault import explained
from convert.store.manifest import inside
from convert.store.paths import Paths, Removed, checked_name

# Parts that nobody has touched for so long belong to no work that is going on.
ABANDONED_S = 24 * 3600
MARK = "done-"
LEARNED = f"{MARK}learning"


class Marks(ABC):
    """Which parts are finished, of how many."""

    @abstractmethod
    def _marks(self) -> set[str]:
        """List the names of all marks."""

    @abstractmethod
    def take_lessons(self, folder: Path | None) -> None:
        """Bring what part 1 has learned from the whole model, if it has."""

    @abstractmethod
    def hand_on(self, folder: Path | None) -> None:
        """Let the other parts have what was learned."""

    @property
    def has_lessons(self) -> bool:
        """Say whether part 1 has learned what the others need."""
        return LEARNED in self._marks()

    def is_done(self, number: int, count: int) -> bool:
        """Say whether a part is finished."""
        return mark_of(number, count) in self._marks()

    def missing(self, count: int) -> tuple[int, ...]:
        """List the parts that are not finished."""
        marks = self._marks()
        return tuple(number for number in range(1, count + 1) if mark_of(number, count) not in marks)

    def counts(self) -> tuple[int, ...]:
        """List into how many parts the work was divided by those that are finished."""
        marks = self._marks() - {LEARNED}
        return tuple(sorted({int(name.rpartition("-")[2]) for name in marks}))


def mark_of(number: int, count: int) -> str:
    """Name the mark of a part."""
    return f"{MARK}{number}-of-{count}"


@dataclass(frozen=True)
class Parts(Marks):
    """The files of some artifacts while their parts are made."""

    folder: Path

    def file(self, target: str, name: str, size_bytes: int) -> Path:
        """Return the path of a file, at its final size; whoever comes first makes it."""
        path = inside(self.folder / checked_name(target, "target"), name)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                os.ftruncate(descriptor, size_bytes)
            finally:
                os.close(descriptor)
        return path

    def finish(self, number: int, count: int, files: Iterable[Path]) -> None:
        """Wait until a part's bytes are on the disk, and mark it."""
        for path in files:
            sync(path)
        self._mark(mark_of(number, count))

    def take_lessons(self, folder: Path | None) -> None:
        """Leave them where they are: below the folder that all machines see."""

    def hand_on(self, folder: Path | None) -> None:  # noqa: ARG002 - the same
        self._mark(LEARNED)

    def _mark(self, name: str) -> None:
        mark = self.folder / name
        with explained(mark):
            self.folder.mkdir(parents=True, exist_ok=True)
            mark.touch()
            sync(mark)
            sync(self.folder)

    def give(self, target: str, staged: Path) -> None:
        """Give an artifact's files to the folder that it is completed in; they stay here as well."""
        source = self.folder / target
        for path in sorted(source.rglob("*")):
            if path.is_file():
                there = staged / path.relative_to(source)
                with explained(path):
                    there.parent.mkdir(parents=True, exist_ok=True)
                    os.link(path, there)

    def remove(self) -> None:
        """Remove all parts, once the artifacts are complete."""
        with explained(self.folder):
            shutil.rmtree(self.folder, ignore_errors=True)

    def _marks(self) -> set[str]:
        return {path.name for path in self.folder.glob(f"{MARK}*")}


def parts_name(recipe: str, keys: Iterable[str]) -> str:
    """Name the work on these artifacts by what decides their bytes."""
    digest = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
    return f"{checked_name(recipe, 'recipe')}-{digest[:16]}"


def parts(paths: Paths, recipe: str, keys: Iterable[str]) -> Parts:
    """Find the folder of these artifacts' parts, made or not."""
    return Parts(paths.root / ".parts" / parts_name(recipe, keys))


def sweep_parts(paths: Paths, *, dry_run: bool = False) -> tuple[Removed, ...]:
    """Remove parts, and what was learned, where that was given up."""
    removed: list[Removed] = []
    with explained(paths.root):
        folders = sorted(
            each for hidden in (".parts", ".lessons") for each in (paths.root / hidden).glob("*/")
        )
        for folder in folders:
            files = [path.lstat() for path in (folder, *folder.rglob("*"))]
            if time.time() - max(about.st_mtime for about in files) > ABANDONED_S:
                size_bytes = sum(about.st_size for about in files)
                removed.append(Removed(folder, "work that nobody has gone on with for a day", size_bytes))
                if not dry_run:
                    shutil.rmtree(folder, ignore_errors=True)
    return tuple(removed)

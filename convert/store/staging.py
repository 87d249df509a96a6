"""The hidden folder in which an artifact is built until it is complete."""

import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

from convert.store.digest import Begun, Digest, Progress, digest_files, sync
from convert.store.fault import WRITE_FAULTS, explained
from convert.store.lock import create_locked, lock_abandoned, locked
from convert.store.manifest import MANIFEST_NAME, FileEntry, Manifest, inside
from convert.store.paths import Paths, Removed
from convert.store.space import allocate
from convert.store.swap import clear, remove, swap_in

_Signature = tuple[int, int, int]  # inode, size and last change, by which a digest stays valid


@dataclass(frozen=True)
class _Names:
    """The names that one build uses below artifacts/.staging."""

    folder: Path

    @property
    def aside(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.old")

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")


class Staging:
    """One artifact that is being built, from `Store.stage`, whose block removes what was not committed."""

    def __init__(self, paths: Paths, names: _Names, recipe: str, target: str, key: str) -> None:
        self.path = names.folder
        self.recipe = recipe
        self.target = target
        self.key = key
        self.is_committed = False
        self._paths = paths
        self._names = names
        self._digests: dict[Path, tuple[_Signature, Digest]] = {}

    def allocate(self, name: str, size_bytes: int) -> Path:
        """Create the file `name` at its final size, blocks reserved: a full disk fails here, not later."""
        path = inside(self.path, name)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path, flags, 0o666)
            try:
                allocate(descriptor, size_bytes, path)
            finally:
                os.close(descriptor)
        return path

    @property
    def size_bytes(self) -> int:
        """Add up the files written so far, which hashing will have to read."""
        return sum(path.lstat().st_size for path in self._files())

    def digest(
        self, *, threads: int | None = None, progress: Progress | None = None
    ) -> tuple[FileEntry, ...]:
        """Sync and digest every file; files unchanged since the last call are not read again."""
        seal([self], threads=threads, progress=progress)
        return tuple(
            FileEntry(path=path.relative_to(self.path).as_posix(), **asdict(known))
            for path, (_, known) in sorted(self._digests.items())
        )

    def commit(self, manifest: Manifest, *, progress: Progress | None = None) -> Manifest:
        """Write the manifest last and put the folder in place in one step; return it with its `files`."""
        if self.is_committed:
            raise ValueError(f"{self.recipe}/{self.target} was committed before")
        if (manifest.target, manifest.key) != (self.target, self.key):
            raise ValueError(f"{self.recipe}/{self.target}: the manifest is another build's")
        with explained(self.path):
            whole = manifest.with_files(self.digest(progress=progress))
            if not whole.files:
                raise ValueError(f"{self.recipe}/{self.target}: nothing was written")
            path = self.path / MANIFEST_NAME
            with path.open("xb") as stream:
                stream.write(whole.to_bytes())
            folders = {each.parent for each in self._files()} | {self.path}
            for each in (path, *sorted(folders, reverse=True)):
                sync(each)
            folder = self._paths.folder(self.recipe, self.target)
            with locked(self._paths.lock):
                self._paths.require_free(self.recipe, self.target)
                swap_in(self.path, folder, self._names.aside)
                self.is_committed = True
            clear(self.path, folder, self._names.aside)
        return whole

    def _files(self) -> list[Path]:
        modes = {path: path.lstat().st_mode for path in sorted(self.path.rglob("*"))}
        files = [path for path, mode in modes.items() if not stat.S_ISDIR(mode)]
        if strange := [path.name for path in files if not stat.S_ISREG(modes[path])]:
            raise ValueError(f"{strange[0]}: neither a file nor a folder")
        return [path for path in files if path != self.path / MANIFEST_NAME]

    def _undigested(self) -> dict[Path, _Signature]:
        found = {path: _signature(path) for path in self._files()}
        self._digests = {path: known for path, known in self._digests.items() if found.get(path) == known[0]}
        return {path: signature for path, signature in found.items() if path not in self._digests}


def seal(
    stagings: Iterable[Staging],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    begun: Mapping[Path, Begun] = MappingProxyType({}),
) -> None:
    """Sync and hash the files of several targets at once, so that each `commit` finds them done.

    What has `begun` is of files that have not been written since.
    """
    wanted = {path: (each, signature) for each in stagings for path, signature in each._undigested().items()}  # noqa: SLF001 - one module
    found = digest_files(wanted, threads=threads, progress=progress, is_synced=True, begun=begun)
    for path, digest in found.items():
        staging, signature = wanted[path]
        staging._digests[path] = signature, digest  # noqa: SLF001 - one module


@contextmanager
def stage(paths: Paths, recipe: str, target: str, key: str) -> Iterator[Staging]:
    """Open a fresh folder to build in; what is in it when the block ends uncommitted is removed."""
    paths.require_free(recipe, target)
    with _named(paths, recipe, target) as names:
        with locked(paths.lock):  # made now: on a disk that is full by then, tidying up could not
            pass
        try:
            with explained(names.folder):
                names.folder.mkdir()
            with explained(names.folder, WRITE_FAULTS):  # whichever code the block runs
                yield Staging(paths, names, recipe, target, key)
        finally:
            with explained(names.folder), locked(paths.lock):
                clear(names.folder, paths.folder(recipe, target), names.aside)


@contextmanager
def removal(paths: Paths, recipe: str, target: str) -> Iterator[Path]:
    """Name a hidden folder to rename to; what it holds is removed when the block ends, or by a sweep."""
    with _named(paths, recipe, target) as names:
        yield names.folder
        with explained(names.folder):
            remove(names.folder)


def sweep(paths: Paths, *, dry_run: bool = False) -> tuple[Removed, ...]:
    """Remove what killed builds left in staging; what a living process still holds stays."""
    swept: list[Removed] = []
    with explained(paths.staging):
        if not paths.staging.is_dir():
            return ()
        for lock in sorted(paths.staging.glob("*.lock")):
            descriptor = lock_abandoned(lock)
            if descriptor is None:
                continue
            try:
                swept += _sweep_one(paths, lock, dry_run=dry_run)
            finally:
                os.close(descriptor)
        # A lock is made before its folder and removed after it: a folder without one belongs to no build.
        for folder in sorted(paths.staging.iterdir()):
            owner = folder.with_name(f"{folder.name.removesuffix('.old')}.lock")
            if folder.is_dir() and not owner.exists():
                swept.append(_left(folder))
                if not dry_run:
                    remove(folder)
    return tuple(swept)


def tree_bytes(folder: Path) -> int:
    """Add up the sizes of a folder's files; one that goes away meanwhile counts as nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            about = path.lstat()
            total += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return total


def _left(folder: Path) -> Removed:
    return Removed(folder, "left by a build that was killed", tree_bytes(folder))


def _sweep_one(paths: Paths, lock: Path, *, dry_run: bool) -> list[Removed]:
    names = _Names(lock.with_suffix(""))
    swept = [_left(folder) for folder in (names.folder, names.aside) if folder.is_dir()]
    if dry_run:
        return swept
    if names.aside.is_dir():
        recipe, _, target = lock.read_text(encoding="utf-8").partition("/")
        with locked(paths.lock):
            clear(names.folder, paths.folder(recipe, target), names.aside)
    else:
        remove(names.folder)
    lock.unlink(missing_ok=True)
    return swept


@contextmanager
def _named(paths: Paths, recipe: str, target: str) -> Iterator[_Names]:
    """Choose names of no other build and lock them for the block; a folder left then waits for a sweep."""
    with explained(paths.root):
        paths.staging.mkdir(parents=True, exist_ok=True)
    descriptor = None
    while descriptor is None:  # where a sweep took the file for a dead process's before it was locked
        names = _Names(paths.staging / f"{recipe}-{target}-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = create_locked(names.lock)
    try:
        with explained(names.lock):
            os.write(descriptor, f"{recipe}/{target}".encode())
        yield names
    finally:
        if not (os.path.lexists(names.folder) or os.path.lexists(names.aside)):
            names.lock.unlink(missing_ok=True)
        os.close(descriptor)


def _signature(path: Path) -> _Signature:
    about = path.lstat()
    return about.st_ino, about.st_size, about.st_mtime_ns

"""A folder where an artifact grows unseen, until it is whole."""

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from convert.store.digest import Digest, Progress, digest_files, sync
from convert.store.fault import explained, write_faults_explained
from convert.store.lock import hold, in_turn, seize
from convert.store.manifest import MANIFEST_NAME, FileEntry, Manifest, inside
from convert.store.paths import Removed, Shelf
from convert.store.space import allocate
from convert.store.swap import clear, put_in_place, remove

_Signature = tuple[int, int, int]  # inode, size, last change: what a digest was taken of


@dataclass(frozen=True)
class _Berth:
    """The names that one build uses below artifacts/.staging."""

    folder: Path

    @property
    def aside(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.old")

    @property
    def lock(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.lock")


class Staging:
    """One artifact in the making, from `Store.stage`, whose block removes what was not committed."""

    def __init__(self, shelf: Shelf, berth: _Berth, recipe: str, target: str, key: str) -> None:
        self.path = berth.folder
        self.recipe = recipe
        self.target = target
        self.key = key
        self.is_committed = False
        self._shelf = shelf
        self._berth = berth
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
        """What lies here now, which is what hashing will have to read."""
        return sum(path.lstat().st_size for path in self._files())

    def digest(
        self, *, threads: int | None = None, progress: Progress | None = None
    ) -> tuple[FileEntry, ...]:
        """Every file with its digest, synced; files unchanged since the last call are not read again."""
        seal([self], threads=threads, progress=progress)
        entries = [
            FileEntry(
                path=path.relative_to(self.path).as_posix(), size_bytes=known.size_bytes, sha256=known.sha256
            )
            for path, (_, known) in self._digests.items()
        ]
        return tuple(sorted(entries, key=lambda entry: entry.path))

    def commit(self, manifest: Manifest, *, progress: Progress | None = None) -> Manifest:
        """Write the manifest last, put the folder in place in one step; returns it with `files` filled in."""
        if self.is_committed:
            raise ValueError(f"{self.recipe}/{self.target} was committed before")
        if (manifest.target, manifest.key) != (self.target, self.key):
            raise ValueError(f"{self.recipe}/{self.target}: the manifest is another build's")
        with explained(self.path):
            whole = manifest.with_files(self.digest(progress=progress))
            if not whole.files:
                raise ValueError(f"{self.recipe}/{self.target}: nothing was written")
            _write_synced(self.path / MANIFEST_NAME, whole.to_bytes())
            for folder in sorted({path.parent for path in self._files()} | {self.path}, reverse=True):
                sync(folder)
            place = self._shelf.place(self.recipe, self.target)
            with in_turn(self._shelf.turn):
                self._shelf.require_free(self.recipe, self.target)
                put_in_place(self.path, place, self._berth.aside)
                self.is_committed = True
            clear(self.path, place, self._berth.aside)
        return whole

    def _files(self) -> list[Path]:
        found: list[Path] = []
        for path in sorted(self.path.rglob("*")):
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise ValueError(f"{path.name}: neither a file nor a folder, which nothing here makes")
            if path != self.path / MANIFEST_NAME:
                found.append(path)
        return found

    def _undigested(self) -> dict[Path, _Signature]:
        signatures = {path: _signature(path) for path in self._files()}
        self._digests = {
            path: known for path, known in self._digests.items() if signatures.get(path) == known[0]
        }
        return {path: each for path, each in signatures.items() if path not in self._digests}

    def _remember(self, path: Path, signature: _Signature, digest: Digest) -> None:
        self._digests[path] = (signature, digest)


def seal(
    stagings: Iterable[Staging], *, threads: int | None = None, progress: Progress | None = None
) -> None:
    """Sync and hash the files of several targets side by side, so that each `commit` finds them done."""
    wanted = {path: (each, signature) for each in stagings for path, signature in each._undigested().items()}  # noqa: SLF001 - one module
    for path, digest in digest_files(wanted, threads=threads, progress=progress, is_synced=True).items():
        staging, signature = wanted[path]
        staging._remember(path, signature, digest)  # noqa: SLF001 - one module


@contextmanager
def stage(shelf: Shelf, recipe: str, target: str, key: str) -> Iterator[Staging]:
    """Open a fresh staging folder; whatever is in it when the block ends uncommitted is gone."""
    place = shelf.place(recipe, target)
    shelf.require_free(recipe, target)
    shelf.open()
    berth, lock = _berth(shelf, recipe, target)
    try:
        staging = Staging(shelf, berth, recipe, target, key)
        with explained(berth.folder):
            berth.folder.mkdir()
        with write_faults_explained(berth.folder):
            yield staging
    finally:
        try:
            with explained(berth.folder), in_turn(shelf.turn):
                clear(berth.folder, place, berth.aside)
            berth.lock.unlink(missing_ok=True)
        finally:
            os.close(lock)


@contextmanager
def berth_for_removal(shelf: Shelf, recipe: str, target: str) -> Iterator[Path]:
    """A name, out of sight, to rename a folder to, which is then removed, at the latest by a sweep."""
    shelf.open()
    berth, lock = _berth(shelf, recipe, target)
    try:
        yield berth.folder
        with explained(berth.folder):
            remove(berth.folder)
    finally:
        if not os.path.lexists(berth.folder):
            berth.lock.unlink(missing_ok=True)
        os.close(lock)


def sweep(shelf: Shelf, *, dry_run: bool = False) -> tuple[Removed, ...]:
    """Remove what killed builds left in staging; what a living process still holds stays."""
    swept: list[Removed] = []
    with explained(shelf.staging):
        if not shelf.staging.is_dir():
            return ()
        for lock in sorted(shelf.staging.glob("*.lock")):
            descriptor = seize(lock)
            if descriptor is None:
                continue
            try:
                swept += _sweep_one(shelf, lock, dry_run=dry_run)
            finally:
                os.close(descriptor)
        # A lock is made before its folder and removed after it: a folder without one is nobody's.
        for folder in sorted(shelf.staging.iterdir()):
            owner = folder.with_name(f"{folder.name.removesuffix('.old')}.lock")
            if folder.is_dir() and not owner.exists():
                swept.append(Removed(folder, "left by a build that was killed", tree_bytes(folder)))
                if not dry_run:
                    remove(folder)
    return tuple(swept)


def tree_bytes(folder: Path) -> int:
    """What a folder's files weigh; one that goes away meanwhile weighs nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            about = path.lstat()
            total += about.st_size if stat.S_ISREG(about.st_mode) else 0
    return total


def _sweep_one(shelf: Shelf, lock: Path, *, dry_run: bool) -> list[Removed]:
    berth = _Berth(lock.with_suffix(""))
    left = [folder for folder in (berth.folder, berth.aside) if folder.is_dir()]
    swept = [Removed(folder, "left by a build that was killed", tree_bytes(folder)) for folder in left]
    if dry_run:
        return swept
    if berth.aside.is_dir():
        recipe, _, target = lock.read_text(encoding="utf-8").partition("/")
        with in_turn(shelf.turn):
            clear(berth.folder, shelf.place(recipe, target), berth.aside)
    else:
        remove(berth.folder)
    lock.unlink(missing_ok=True)
    return swept


def _berth(shelf: Shelf, recipe: str, target: str) -> tuple[_Berth, int]:
    while True:
        berth = _Berth(shelf.staging / f"{recipe}-{target}-{os.getpid()}-{secrets.token_hex(4)}")
        lock = hold(berth.lock)
        if lock is None:  # a sweep took it for a dead one's in the instant before it was locked
            continue
        try:
            with explained(berth.lock):
                os.write(lock, f"{recipe}/{target}".encode())
        except BaseException:
            berth.lock.unlink(missing_ok=True)
            os.close(lock)
            raise
        return berth, lock


def _signature(path: Path) -> _Signature:
    about = path.lstat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())

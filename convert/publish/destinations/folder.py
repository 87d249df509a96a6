"""A local folder: the whole repo is prepared unseen, next to its place, and put there in one step."""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import unquote

from convert.errors import Failure, UsageFailure
from convert.progress import Progress
from convert.publish.bundle import Bundle, Origin, ShippedFile
from convert.publish.destination import Contents, Destination, Moved, Sent, Survey
from convert.publish.listing import (
    LARGEST_BYTES,
    NAME,
    blocks,
    damaged,
    differs,
    head_of,
    listing_of,
    name_of,
    parse,
)
from convert.recipe import expand_home
from convert.source import Hub
from convert.store.digest import digest_files, sync
from convert.store.fault import explained
from convert.store.manifest import inside
from convert.store.paths import checked_name
from convert.store.space import free_bytes
from convert.store.swap import clear, remove, swap_in

_STAGING = ".publishing"
_SPARE_BYTES = 1 << 20

# What a file system answers that has no second names for files, or none for this one.
_CANNOT_LINK = frozenset({errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True)
class _Paths:
    """The paths that one repo uses below the folder."""

    place: Path
    staging: Path
    aside: Path
    lock: Path

    @property
    def current(self) -> Path:
        """Find the current state; a run killed between two renames has left it aside."""
        return self.aside if not os.path.lexists(self.place) and self.aside.is_dir() else self.place


@dataclass(frozen=True)
class FolderDestination(Destination):
    """A folder that holds each repo as a folder."""

    root: Path

    SCHEMES = ("", "file", "local")

    @classmethod
    def at(cls, address: str, hub: Hub) -> Self:  # noqa: ARG003 - the Hub's alone
        scheme, mark, path = address.partition("://")
        return cls(expanded_folder(unquote(path) if mark and scheme.lower() in cls.SCHEMES else address))

    def origin(self, repo: str, revision: str) -> Origin:  # noqa: ARG002
        """Say that the files are there already."""
        return Origin("folder")

    def look(self, repo: str, revision: str) -> Contents:  # noqa: ARG002 - a folder has no branches
        """See what the folder holds; no content is read that its list has a digest of."""
        paths = self._paths(repo)
        with _explained(paths.place):
            if os.path.lexists(self.root) and not self.root.is_dir():
                raise Failure(f"{self.root}: a file is where a folder is needed", "move that file away")
            if not os.path.lexists(paths.current):
                return Contents(None)
            data = _read_listing(paths)
            held = frozenset(_files(paths.current)) - {NAME}
        known = parse(data, paths.current / NAME).digests

        def has(file: ShippedFile) -> bool:
            with _explained(paths.place):
                return _holds(paths.current, file, known.get(file.path))

        return Contents(head_of(data), held, has)

    def survey(self, bundle: Bundle) -> Survey:
        return self.look(bundle.repo, bundle.revision).survey(str(self._paths(bundle.repo).place), bundle)

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Complete the staging folder, then exchange it for what is there."""
        paths, listing = self._paths(bundle.repo), listing_of(bundle)
        with _explained(paths.place):
            paths.staging.parent.mkdir(parents=True, exist_ok=True)
        with _alone(paths), _explained(paths.place):
            clear(paths.aside, paths.place, paths.aside)  # what a killed run has staged is kept
            now = self.survey(bundle)
            if now.head != survey.head:
                raise Moved(str(paths.place))
            data = listing.to_bytes()
            if not now.missing and (paths.place / NAME).read_bytes() == data:
                remove(paths.staging)
                return Sent(survey.place, listing.version, 0, is_new=False)
            sent_bytes = _stage(paths, bundle, now, progress)
            _write(paths.staging / NAME, [data])
            for folder in sorted(_folders(paths.staging), reverse=True):
                sync(folder)
            swap_in(paths.staging, paths.place, paths.aside)
            remove(paths.aside)
            remove(paths.staging)
        return Sent(survey.place, listing.version, sent_bytes, is_new=True)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:  # noqa: ARG002
        """Read every file, and compare its digest."""
        place = self._paths(bundle.repo).place
        expected = {inside(place, file.path): file.sha256 for file in bundle.files}
        hint = "is the disk sound? remove the file, and run the same command again"
        with _explained(place):
            if (place / NAME).read_bytes() != listing_of(bundle).to_bytes():
                raise differs(place / NAME, hint)
            with progress.stage("read back", bundle.size_bytes) as advance:
                found = digest_files(expected, progress=advance)
        for path, sha256 in expected.items():
            if found[path].sha256 != sha256:
                raise differs(path, hint)

    def _paths(self, repo: str) -> _Paths:
        name = checked_name(name_of(repo), "repo")
        hidden = self.root / _STAGING
        return _Paths(self.root / name, hidden / name, hidden / f"{name}.old", hidden / f"{name}.lock")


def expanded_folder(path: str) -> Path:
    """Expand ~ and ~user; refuse a user whom this machine does not know."""
    found = expand_home(path)
    if path.startswith("~") and found == Path(path):
        raise UsageFailure(
            f"publish.to: this machine has no user {found.parts[0][1:]}", "write the folder's path in full"
        )
    return found


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Let no OSError pass untranslated; the remedy is another place to publish to."""
    try:
        with explained(path):
            yield
    except Failure as failure:
        failure.hint = failure.hint.replace(
            "choose another folder with --out", "name another place to publish to"
        )
        raise


def _read_listing(paths: _Paths) -> bytes:
    """Read the list of what is there; a folder without one was not put there by this program."""
    path = paths.current / NAME
    if paths.current.is_symlink() or not paths.current.is_dir():
        raise Failure(
            f"{paths.place}: not a folder, but a link or a file", "move it away, or name another place"
        )
    try:
        about = path.lstat()  # neither followed nor waited for: a link or a pipe by that name is no list
    except FileNotFoundError:
        raise Failure(
            f"{paths.place}: holds no {NAME}, so it was not published there by modelwright",
            "move that folder away, or name another place",
        ) from None
    if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_BYTES:
        raise damaged(path)
    return path.read_bytes()


def _holds(folder: Path, file: ShippedFile, known: str | None = None, *, is_synced: bool = False) -> bool:
    """Say whether a folder holds a file, by its size and its digest, which is read where it is not known."""
    path = inside(folder, file.path)
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(about.st_mode) or about.st_size != file.size_bytes:
        return False
    return (known or digest_files([path], is_synced=is_synced)[path].sha256) == file.sha256


@contextmanager
def _alone(paths: _Paths) -> Iterator[None]:
    """Hold the repo's lock, which the kernel drops with the process."""
    with _explained(paths.lock), paths.lock.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"{paths.place}: another run publishes there", "wait for it, then run the same command again"
            ) from None
        yield


def _stage(paths: _Paths, bundle: Bundle, survey: Survey, progress: Progress) -> int:
    """Make the staging folder hold the bundle, and the files to keep; return how many bytes were copied."""
    paths.staging.mkdir(exist_ok=True)
    (paths.staging / NAME).unlink(missing_ok=True)
    for path in set(_files(paths.staging)) - {file.path for file in bundle.files}:
        inside(paths.staging, path).unlink()
    for folder in sorted(_folders(paths.staging)[1:], reverse=True):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    missing = {file.path for file in survey.missing}
    left = [
        file
        for file in bundle.files
        if file.path in missing and not _holds(paths.staging, file, is_synced=True)
    ]
    copied_bytes = sum(file.size_bytes for file in left)
    root = paths.place.parent
    if (free := free_bytes(root)) < copied_bytes + _SPARE_BYTES:
        raise Failure(
            f"{root}: {copied_bytes:,} bytes are to be copied, but {free:,} are free",
            "free some space, or name another place to publish to",
        )
    for path in (*(file.path for file in bundle.files if file.path not in missing), *survey.foreign):
        _link(inside(paths.place, path), inside(paths.staging, path))
    with progress.stage("copy", copied_bytes) as advance:
        for file in left:
            copy = inside(paths.staging, file.path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.unlink(missing_ok=True)
            _write(copy, blocks(file, advance))
    return copied_bytes


def _link(source: Path, path: Path) -> None:
    """Give a file a second name; copy it where that cannot be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    try:
        os.link(source, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _CANNOT_LINK:
            raise
        shutil.copy2(source, path, follow_symlinks=False)
        if not path.is_symlink():
            sync(path)


def _write(path: Path, content: Iterable[bytes]) -> None:
    with path.open("xb") as stream:
        for block in content:
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())


def _files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


def _folders(folder: Path) -> list[Path]:
    return [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]


DESTINATION = FolderDestination

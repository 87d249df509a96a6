"""A local folder: the whole repo is made beside its place, unseen, and takes it in one step.

Whoever looks sees the old state or the new. What a killed run has copied is found again by the next one.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.errors import Failure
from convert.publish.destination import Sent, Standing, Survey
from convert.publish.destinations.listing import (
    LARGEST_BYTES,
    NAME,
    Listing,
    blocks,
    here,
    listing_of,
    moved,
    name_of,
    parse,
)
from convert.store.digest import digest_files, sync
from convert.store.manifest import inside
from convert.store.paths import checked_name
from convert.store.space import free_bytes
from convert.store.swap import put_in_place, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from convert.progress import Progress
    from convert.publish.bundle import Bundle, ShippedFile

_STAGING = ".publishing"
_SPARE_BYTES = 1 << 20

# What a file system answers that has no second names for files, or none for this one.
_CANNOT_LINK = frozenset({errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


@dataclass(frozen=True)
class _Spot:
    """The names that one repo uses below the folder."""

    root: Path
    name: str

    @property
    def place(self) -> Path:
        return self.root / self.name

    @property
    def staging(self) -> Path:
        return self.root / _STAGING / self.name

    @property
    def aside(self) -> Path:
        return self.root / _STAGING / f"{self.name}.old"

    @property
    def lock(self) -> Path:
        return self.root / _STAGING / f"{self.name}.lock"

    @property
    def standing(self) -> Path:
        """What stands; a run killed between two renames has left it aside."""
        return self.aside if not os.path.lexists(self.place) and self.aside.is_dir() else self.place


@dataclass(frozen=True)
class FolderPlace:
    """A destination: repos side by side in a folder."""

    root: Path

    def look(self, repo: str, revision: str) -> Standing:  # noqa: ARG002 - a folder has no branches
        """See what stands in the folder; content is not read where its list tells of it."""
        spot = self._spot(repo)
        with here(spot.place):
            if os.path.lexists(self.root) and not self.root.is_dir():
                raise Failure(f"{self.root}: a file stands where a folder is needed", "move that file away")
            if not os.path.lexists(spot.standing):
                return Standing(None, frozenset(), lambda _: False)
            listing, data = _standing(spot)
            paths = frozenset(_paths(spot.standing)) - {NAME}
        head, known = hashlib.sha256(data).hexdigest(), listing.digests

        def has(file: ShippedFile) -> bool:
            with here(spot.place):
                return _is_there(spot.standing, file, known)

        return Standing(head, paths, has)

    def describe(self, bundle: Bundle) -> Survey:
        """Look at what stands in the folder, and what it lacks."""
        standing = self.look(bundle.repo, bundle.revision)
        return Survey(
            str(self._spot(bundle.repo).place),
            exists=standing.head is not None,
            head=standing.head,
            missing=tuple(file for file in bundle.files if not standing.has(file)),
            foreign=tuple(sorted(standing.paths - {file.path for file in bundle.files})),
        )

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Complete the staging folder, then exchange it for what stands."""
        spot, listing = self._spot(bundle.repo), listing_of(bundle)
        with here(spot.place):
            spot.staging.parent.mkdir(parents=True, exist_ok=True)
        with _alone(spot), here(spot.place):
            _put_back(spot)
            now = self.describe(bundle)
            if now.head != survey.head:
                raise moved(str(spot.place))
            data = listing.to_bytes()
            if not now.missing and (spot.place / NAME).read_bytes() == data:
                remove(spot.staging)
                return Sent(survey.place, listing.version, 0, is_new=False)
            sent_bytes = _stage(spot, bundle, now, progress)
            _write(spot.staging / NAME, [data])
            for folder in sorted(_folders(spot.staging), reverse=True):
                sync(folder)
            put_in_place(spot.staging, spot.place, spot.aside)
            remove(spot.aside)
            remove(spot.staging)
        return Sent(survey.place, listing.version, sent_bytes, is_new=True)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Read every file, and compare its digest."""
        place = self._spot(bundle.repo).place
        paths = {inside(place, file.path): file.sha256 for file in bundle.files}
        with here(place):
            if (place / NAME).read_bytes() != listing_of(bundle).to_bytes():
                raise _wrong(place / NAME, sent)
            with progress.stage("read back", bundle.size_bytes) as advance:
                found = digest_files(paths, progress=advance)
        for path, sha256 in paths.items():
            if found[path].sha256 != sha256:
                raise _wrong(path, sent)

    def _spot(self, repo: str) -> _Spot:
        return _Spot(self.root, checked_name(name_of(repo), "repo"))


def _wrong(path: Path, sent: Sent) -> Failure:
    return Failure(
        f"{path}: not what was published there ({sent.revision})",
        "is the disk sound? remove the file, and run the same command again",
    )


def _standing(spot: _Spot) -> tuple[Listing, bytes]:
    """The list of what stands; whatever has none was not put there by this program."""
    path = spot.standing / NAME
    if spot.standing.is_symlink() or not spot.standing.is_dir():
        raise Failure(f"{spot.place}: not a folder of its own", "move it away, or name another place")
    damaged = Failure(
        f"{path}: damaged, or of a later version", "upgrade modelwright, or move the folder away"
    )
    try:
        about = path.lstat()  # neither followed nor waited for: a link or a pipe by that name is no list
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_BYTES:
            raise damaged
        data = path.read_bytes()
    except FileNotFoundError:
        raise Failure(
            f"{spot.place}: holds no {NAME}, so it was not published there by modelwright",
            "move that folder away, or name another place",
        ) from None
    listing = parse(data)
    if listing is None:
        raise damaged
    return listing, data


def _is_there(folder: Path, file: ShippedFile, known: dict[str, str]) -> bool:
    """Whether a file stands at its size, and was put there as what it is to be.

    What was kept beside the last release is in no list, and is read.
    """
    path = inside(folder, file.path)
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(about.st_mode) or about.st_size != file.size_bytes:
        return False
    return (known.get(file.path) or digest_files([path])[path].sha256) == file.sha256


@contextmanager
def _alone(spot: _Spot) -> Iterator[None]:
    """Hold the repo's lock, which the kernel drops with the process."""
    with here(spot.lock):
        descriptor = os.open(spot.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(
                f"{spot.place}: another run publishes there", "wait for it, then run the same command again"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _put_back(spot: _Spot) -> None:
    """Mend what a run left that was killed between two renames."""
    if os.path.lexists(spot.aside):
        if os.path.lexists(spot.place):
            remove(spot.aside)
        else:
            spot.aside.rename(spot.place)
            sync(spot.root)


def _stage(spot: _Spot, bundle: Bundle, survey: Survey, progress: Progress) -> int:
    """Make the staging folder hold the bundle, and what stands beside it; how much was copied."""
    spot.staging.mkdir(exist_ok=True)
    (spot.staging / NAME).unlink(missing_ok=True)
    for path in set(_paths(spot.staging)) - {file.path for file in bundle.files}:
        inside(spot.staging, path).unlink()
    for folder in sorted(_folders(spot.staging)[1:], reverse=True):
        with suppress(OSError):  # it is not empty
            folder.rmdir()
    missing = {file.path for file in survey.missing}
    left = [file for file in bundle.files if file.path in missing and not _is_left(spot.staging, file)]
    copied_bytes = sum(file.size_bytes for file in left)
    if free_bytes(spot.root) < copied_bytes + _SPARE_BYTES:
        raise Failure(
            f"{spot.root}: {copied_bytes:,} bytes are to be copied, and {free_bytes(spot.root):,} are free",
            "free some space, or name another place to publish to",
        )
    for path in (*(file.path for file in bundle.files if file.path not in missing), *survey.foreign):
        _link(inside(spot.place, path), inside(spot.staging, path))
    with progress.stage("copy", copied_bytes) as advance:
        for file in left:
            _copy(file, inside(spot.staging, file.path), advance)
    return copied_bytes


def _is_left(staging: Path, file: ShippedFile) -> bool:
    """Whether a killed run has copied this file whole."""
    path = inside(staging, file.path)
    try:
        about = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(about.st_mode) or about.st_size != file.size_bytes:
        return False
    return digest_files([path], is_synced=True)[path].sha256 == file.sha256


def _link(source: Path, path: Path) -> None:
    """Give a file that stands a second name; where that cannot be, copy it."""
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


def _copy(file: ShippedFile, path: Path, advance: Callable[[int], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    _write(path, blocks(file, advance))


def _write(path: Path, content: Iterator[bytes] | list[bytes]) -> None:
    with path.open("xb") as stream:
        for block in content:
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())


def _paths(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_symlink() or not path.is_dir()
    )


def _folders(folder: Path) -> list[Path]:
    return [folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())]

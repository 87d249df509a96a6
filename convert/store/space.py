"""Check for room on the disk before the work begins."""

import errno
import os
from pathlib import Path

from convert.errors import Failure
from convert.size import size
from convert.store.fault import explained, failure_from

# The answers of file systems that cannot reserve, where the C library does not write zeros instead.
_CANNOT_RESERVE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})


def free_bytes(path: Path) -> int:
    """Return how much an unprivileged user may still write where `path` is, or will be."""
    with explained(path):
        existing = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
        about = os.statvfs(existing)
    return about.f_bavail * about.f_frsize


def require_space(path: Path, needed_bytes: int) -> None:
    """Refuse, before anything is read, where the disk cannot hold the output."""
    free = free_bytes(path)
    if free < needed_bytes:
        raise Failure(
            f"{path}: {size(needed_bytes)} needed, {size(free)} free",
            f"free {size(needed_bytes - free)}, convert fewer targets with --only, "
            "or choose another disk with --out",
        )


def allocate(descriptor: int, size_bytes: int, path: Path) -> None:
    """Give an empty file its final size, blocks reserved, so that no later write finds the disk full."""
    if size_bytes == 0:
        return
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        if error.errno not in _CANNOT_RESERVE:
            raise failure_from(error, path) from error
        with explained(path):
            os.ftruncate(descriptor, size_bytes)

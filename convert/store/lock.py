"""Locks that the kernel drops with the process that held them, however it ended."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convert.store.fault import explained


def create_locked(path: Path) -> int | None:
    """Create `path` and lock it while the descriptor stays open; None if a sweep took it in between."""
    return _lock(path, os.O_CREAT | os.O_EXCL)


def lock_abandoned(path: Path) -> int | None:
    """Lock the file of a dead process; None if the process lives, or another sweep removed the file."""
    return _lock(path, os.O_NOFOLLOW)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for this lock and hold it: for steps of milliseconds that two processes must not interleave."""
    with explained(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        with explained(path):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock(path: Path, flags: int) -> int | None:
    with explained(path):
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | flags, 0o666)
        except FileNotFoundError:
            if flags & os.O_CREAT:  # its folder is gone
                raise
            return None
        is_kept = False
        try:
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # Removed, or replaced, by another process before it was locked?
                is_kept = os.path.samestat(path.lstat(), os.fstat(descriptor))
        finally:
            if not is_kept:
                os.close(descriptor)
    return descriptor if is_kept else None

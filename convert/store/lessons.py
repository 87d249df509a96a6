"""Keep what is learned of a source for all conversions of it, until the last has built its artifacts."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from convert.store.fault import explained


@contextmanager
def held(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a folder while artifacts are built by it; the function given removes it, unless others hold it."""
    descriptor, lock = _shared(folder)

    def remove() -> None:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
            lock.unlink(missing_ok=True)
            with suppress(OSError):  # others are learning of other sources
                folder.parent.rmdir()

    try:
        yield remove
    finally:
        os.close(descriptor)


def _shared(folder: Path) -> tuple[int, Path]:
    """Lock a file next to the folder; again, where somebody removed it in between."""
    lock = folder.with_name(f"{folder.name}.lock")
    while True:
        with explained(lock):
            lock.parent.mkdir(parents=True, exist_ok=True)
            try:
                descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except FileNotFoundError:  # the folder above was removed in between
                continue
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            with suppress(FileNotFoundError):
                if os.path.samestat(lock.stat(), os.fstat(descriptor)):
                    return descriptor, lock
            os.close(descriptor)

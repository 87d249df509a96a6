"""SHA-256 of many large files at once: hashing releases the interpreter, so threads are enough."""

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Lock
from types import MappingProxyType
from typing import Any

from convert.errors import Failure
from convert.store.fault import explained

# Large enough that the interpreter is not in the way, small enough to stay in a core's cache.
BUFFER_BYTES = 1 << 20

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Digest:
    """The size and digest of one file, as read."""

    size_bytes: int
    sha256: str


@dataclass
class Begun:
    """A digest of which a file's first bytes are done."""

    hasher: Any = field(default_factory=hashlib.sha256)
    size_bytes: int = 0

    def add(self, data: memoryview) -> None:
        """Go on with the bytes that come next."""
        self.hasher.update(data)
        self.size_bytes += len(data)


class _StoppedError(Exception):
    """Another file failed, or the user interrupted."""


def digest_files(
    paths: Iterable[Path],
    *,
    threads: int | None = None,
    progress: Progress | None = None,
    is_synced: bool = False,
    begun: Mapping[Path, Begun] = MappingProxyType({}),
) -> dict[Path, Digest]:
    """Hash every file; `is_synced` also waits until each is on the disk, while others are hashed.

    What has `begun` goes on where it is, and is used up by it.

    `progress` is called with the bytes hashed since the last call, by one thread at a time.
    """
    wanted = sorted(set(paths), key=lambda path: (-_size_bytes(path), path))  # the longest first
    if not wanted:
        return {}
    workers = min(threads or os.cpu_count() or 1, len(wanted))
    stop, lock = Event(), Lock()

    def report(count: int) -> None:
        if progress is not None:
            with lock:
                progress(count)

    with ThreadPoolExecutor(workers * (2 if is_synced else 1)) as pool:
        syncs: list[Future[None]] = []
        digests: dict[Path, Future[Digest]] = {}
        try:
            for path in wanted:
                if is_synced:
                    syncs.append(pool.submit(sync, path))
                digests[path] = pool.submit(_digest, path, begun.get(path), report, stop)
            pending: list[Future[Any]] = [*syncs, *digests.values()]
            done, _ = wait(pending, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        except BaseException:
            # Without this an interrupt would wait for gigabytes.
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return {path: digests[path].result() for path in sorted(digests)}


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's entries, are on the disk."""
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some network file systems cannot sync a folder, and order its entries themselves.
            if not (error.errno == errno.EINVAL and stat.S_ISDIR(os.fstat(descriptor).st_mode)):
                raise
        finally:
            os.close(descriptor)


def _size_bytes(path: Path) -> int:
    with explained(path):
        return path.lstat().st_size


def _digest(path: Path, begun: Begun | None, report: Progress, stop: Event) -> Digest:
    begun = begun or Begun()
    report(begun.size_bytes)
    buffer = memoryview(bytearray(BUFFER_BYTES))
    with explained(path):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Failure(f"{path}: not a regular file", "an artifact holds plain files only")
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
            stream.seek(begun.size_bytes)
            while count := stream.readinto(buffer):
                if stop.is_set():
                    raise _StoppedError
                begun.add(buffer[:count])
                report(count)
    return Digest(begun.size_bytes, begun.hasher.hexdigest())

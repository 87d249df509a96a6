"""Digests of files, computed once and remembered until the file changes."""

import hashlib
import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from convert.errors import Failure
from convert.source.listing import FileDigest
from convert.source.parallel import Watch

_CHUNK_BYTES = 1 << 20
_TICK_S = 0.05
LONG_BYTES = 1 << 30


class Hasher:
    """Computes the digests that the Hub lists, for a stream of a known size."""

    def __init__(self, expected: FileDigest) -> None:
        self.size_bytes = 0
        self._sha256 = hashlib.sha256()
        self._git_sha1 = hashlib.sha1(b"blob %d\0" % expected.size_bytes, usedforsecurity=False)
        # Small files alone are compared by it; for weights it would double the work.
        self._is_git = expected.git_sha1 is not None

    def update(self, chunk: bytes) -> None:
        """Add the next bytes of the stream."""
        self.size_bytes += len(chunk)
        self._sha256.update(chunk)
        if self._is_git:
            self._git_sha1.update(chunk)

    def digest(self) -> FileDigest:
        """Return the digest of the bytes so far."""
        return FileDigest(
            self.size_bytes, self._sha256.hexdigest(), self._git_sha1.hexdigest() if self._is_git else None
        )


def digest_of_all(files: Mapping[str, str]) -> str:
    """Digest many files by their names and SHA-256."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def feed(path: Path, hasher: Hasher, watch: Watch) -> None:
    """Hash the content of a file."""
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK_BYTES):
            watch.check()
            hasher.update(chunk)
            watch.advance(len(chunk))


class DigestNotes:
    """Stored digests by path, each valid until the file's size, times or inode change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "digests"

    def recall(self, path: Path) -> FileDigest | None:
        """Return the stored digest if the file has not changed since."""
        try:
            note = json.loads(self._note(path).read_text())
            if note["stat"] != _identity(path.stat()):
                return None
            return FileDigest(path.stat().st_size, note["sha256"], note["git_sha1"])
        except (OSError, ValueError, KeyError, TypeError):
            return None  # missing or damaged: the file is hashed again

    def remember(self, path: Path, digest: FileDigest) -> None:
        """Store the digest of a file as it is now."""
        note = {"stat": _identity(path.stat()), "sha256": digest.sha256, "git_sha1": digest.git_sha1}
        with suppress(OSError):  # if the home cannot be written, the next run hashes the file again
            write_atomically(self._note(path), json.dumps(note))

    def _note(self, path: Path) -> Path:
        return self._folder / f"{hashlib.sha256(os.fsencode(path.resolve())).hexdigest()}.json"


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a small file so that no reader sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def require_type(path: Path, size_bytes: int) -> None:
    """Refuse a long file of weights that does not begin as its name says, before it is hashed for minutes."""
    if size_bytes < LONG_BYTES:  # its reader says more of what is wrong
        return
    with path.open("rb") as file:
        head = file.read(9)
    header_bytes = int.from_bytes(head[:8], "little")
    begins = {
        ".safetensors": head[8:] == b"{" and header_bytes < size_bytes,
        ".bin": head.startswith((b"PK\3\4", b"\x80")),
    }
    if not begins.get(path.suffix, True):
        raise Failure(f"{path}: does not begin as a {path.suffix} file does", "download it again")


def digest_file(path: Path, expected: FileDigest, notes: DigestNotes, watch: Watch) -> FileDigest:
    """Return the digest of a file on disk: the stored one if it is what is expected, else by reading it."""
    known = notes.recall(path)
    if known and known.proves(expected):
        watch.advance(known.size_bytes)
        return known
    before = path.stat()
    hasher = Hasher(expected)
    feed(path, hasher, watch)
    digest = hasher.digest()
    # A file written in the last tick of the clock could change again without changing its times.
    is_settled = time.time() - before.st_mtime > _TICK_S
    if is_settled and _identity(before) == _identity(path.stat()):
        notes.remember(path, digest)
    return digest

"""The Hub cache on disk, in the layout of the Hub's client: blobs, snapshots that link to them, refs."""

import fcntl
import json
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from threading import Event

from convert.errors import Failure
from convert.source.digest import write_atomically
from convert.source.hub import COMMIT, Hub, is_digest
from convert.source.listing import FileDigest, Kind, Listing, is_escaping
from convert.source.retry import Stopped

_PART = ".incomplete"
_ABANDONED_S = 24 * 3600
_WRITING_S = 60


class RepoCache:
    """The part of the cache that belongs to one repo."""

    def __init__(self, hub: Hub, model: str, kind: Kind = "model") -> None:
        name = "--".join([f"{kind}s", *model.split("/")])
        self._kind: Kind = kind
        self.folder = hub.cache / name
        self._locks = hub.cache / ".locks" / name
        self._listings = hub.notes / "listings" / name

    def snapshot(self, commit: str) -> Path:
        """Return the folder that shows the repo's files at a commit."""
        return self.folder / "snapshots" / commit

    def blob(self, digest: str) -> Path:
        """Return the path of content with this digest, once complete and checked."""
        return self.folder / "blobs" / digest

    def part(self, digest: str) -> Path:
        """Return the path where it grows until then."""
        return self.folder / "blobs" / f"{digest}{_PART}"

    def find(self, commit: str, name: str, expected: FileDigest) -> Path | None:
        """Find the file if its size is right: the blob, or a copy in place of the link."""
        candidates = [self.blob(expected.blob)] if expected.blob else []
        for path in [*candidates, self.snapshot(commit) / name]:
            with suppress(OSError):
                if path.stat().st_size == expected.size_bytes:
                    return path
        return None

    def missing_bytes(self, commit: str, name: str, expected: FileDigest) -> int:
        """Return how much of the file is still to be downloaded."""
        if self.find(commit, name, expected) or not expected.blob:
            return 0
        with suppress(OSError):
            return max(0, expected.size_bytes - self.part(expected.blob).stat().st_size)
        return expected.size_bytes

    @contextmanager
    def lock(self, digest: str, stop: Event) -> Iterator[None]:
        """Hold the lock that the Hub's client takes for this blob, so that only one process writes it."""
        while (held := self._try_lock(digest)) is None:
            if stop.wait(0.05):
                raise Stopped
        try:
            yield
        finally:
            os.close(held)

    def _try_lock(self, digest: str) -> int | None:
        path = self._locks / f"{digest}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o664)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink:  # else it was removed meanwhile
                return handle
        except BlockingIOError:
            pass
        except OSError as error:
            os.close(handle)
            what = f"{path}: this file system has no locks ({error.strerror})"
            raise Failure(what, "set HF_HUB_CACHE to a local folder") from None
        os.close(handle)
        return None

    def link(self, commit: str, name: str, blob: Path) -> None:
        """Show a blob under its name in the snapshot."""
        pointer = self.snapshot(commit) / name
        target = os.path.relpath(blob, pointer.parent)
        if pointer.is_symlink() and str(pointer.readlink()) == target:
            return
        if pointer.exists() and pointer.samefile(blob):
            return
        pointer.unlink(missing_ok=True)
        pointer.parent.mkdir(parents=True, exist_ok=True)
        try:
            pointer.symlink_to(target)
        except FileExistsError:
            pass  # another process was faster with the same link
        except OSError:
            pointer.hardlink_to(blob)

    def sweep(self, wanted: Iterable[str]) -> None:
        """Remove the leftovers of killed downloads: the Hub client's parts, and ours that are not wanted."""
        kept = {self.part(digest).name for digest in wanted}
        for path in sorted((self.folder / "blobs").glob(f"*{_PART}")):
            match = re.fullmatch(r"([0-9a-f]+)(\.[0-9a-f]{8})?\.incomplete", path.name)
            if not match or path.name in kept or not is_digest(match[1]):
                continue
            with suppress(OSError):  # it belongs to another user, or is gone already
                if not match[2] and time.time() - path.stat().st_mtime < _ABANDONED_S:
                    continue  # perhaps of another revision, interrupted a minute ago: its next run resumes it
                held = self._try_lock(match[1])
                if held is not None:  # its writer is gone
                    try:
                        path.unlink()
                    finally:
                        os.close(held)

    def write_ref(self, revision: str, commit: str) -> None:
        """Record the commit of a branch or tag, for offline runs and for other tools."""
        path = self.folder / "refs" / revision
        if revision == commit or self.read_ref(revision) == commit:
            return
        # The client would take a temporary file of a killed run for a ref, and call the repo corrupt.
        for stray in path.parent.glob(f"{path.name}.*.tmp"):
            if time.time() - stray.stat().st_mtime > _WRITING_S:
                stray.unlink(missing_ok=True)
        write_atomically(path, commit)

    def read_ref(self, revision: str) -> str | None:
        """Return the commit that a revision was when last seen."""
        with suppress(OSError, UnicodeDecodeError):
            text = (self.folder / "refs" / revision).read_text().strip()
            return text if COMMIT.fullmatch(text) else None
        return revision if COMMIT.fullmatch(revision) else None

    def write_listing(self, listing: Listing) -> None:
        """Record the files of a commit; commits never change."""
        path = self._listings / f"{listing.commit}.json"
        if not path.exists():
            files = {name: asdict(digest) for name, digest in listing.files.items()}
            with suppress(OSError):
                write_atomically(path, json.dumps({"repo": listing.repo, "files": files}))

    def read_listing(self, model: str, commit: str) -> Listing | None:
        """Read the recorded files of a commit."""
        try:
            note = json.loads((self._listings / f"{commit}.json").read_text())
            files = {str(name): FileDigest(**digest) for name, digest in note["files"].items()}
            is_sound = all(is_digest(digest.blob) for digest in files.values())
            if is_sound and not any(is_escaping(name) for name in files):
                return Listing(model, str(note["repo"]), commit, None, files, self._kind)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            pass  # missing or damaged: it can be listed again
        return None

    def read_snapshot(self, model: str, commit: str) -> Listing | None:
        """List what other tools downloaded of a commit; the digests are the names of the blobs."""
        files = {}
        with suppress(OSError):
            folder = self.snapshot(commit)
            # A model's files are at the top; a dataset's may be in folders.
            for path in sorted(folder.iterdir() if self._kind == "model" else folder.rglob("*")):
                if path.is_file():
                    files[path.relative_to(folder).as_posix()] = _digest_of_link(path)
        return Listing(model, model, commit, None, files, self._kind) if files else None


def _digest_of_link(path: Path) -> FileDigest:
    size_bytes = path.stat().st_size
    blob = path.readlink().name if path.is_symlink() else ""
    if not is_digest(blob):
        return FileDigest(size_bytes)
    return FileDigest(size_bytes, sha256=blob) if len(blob) == 64 else FileDigest(size_bytes, git_sha1=blob)

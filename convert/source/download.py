"""Downloads of one file from the Hub: resumed where they stopped, and checked.

The Hub's client compares no digest, restarts a killed download, and does not retry a reset connection or a
503. So only listings come through it; bodies come through this loop, on its HTTP session.
"""

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from convert.errors import Failure
from convert.source.digest import Hasher, feed
from convert.source.hub import Hub, client, is_digest
from convert.source.listing import FileDigest, Kind
from convert.source.parallel import Watch
from convert.source.refusal import UNTRUSTED, Request, broken, refusal
from convert.source.retry import Backoff, Transient

if TYPE_CHECKING:
    import httpx2

_REAL_PROGRESS_BYTES = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repo at a commit, with its expected digest."""

    repo: str
    commit: str
    name: str
    expected: FileDigest
    kind: Kind = "model"

    @property
    def label(self) -> str:
        """Return its name in messages."""
        return f"{self.repo}/{self.name}"

    def url(self, hub: Hub) -> str:
        """Return the address of its body."""
        folder = "datasets/" if self.kind == "dataset" else ""
        return f"{hub.endpoint}/{folder}{self.repo}/resolve/{self.commit}/{quote(self.name)}"


class Part:
    """A growing file, hashed as it grows; an earlier run may have left its beginning."""

    def __init__(self, path: Path, wanted: RemoteFile, watch: Watch) -> None:
        self.watch = watch
        self._path = path
        self._wanted = wanted
        self._hasher = Hasher(wanted.expected)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered, so that a killed run leaves exactly what it counted.
            self._file = path.open("ab", buffering=0)
        try:
            with self._writing():
                if self._file.tell() > wanted.expected.size_bytes:
                    self._file.truncate(0)
                feed(path, self._hasher, watch)
        except BaseException:
            self._file.close()
            raise

    @property
    def here_bytes(self) -> int:
        """Return how much has arrived."""
        return self._hasher.size_bytes

    def append(self, chunk: bytes) -> None:
        """Write the next bytes."""
        view = memoryview(chunk)
        with self._writing():
            while view:
                view = view[self._file.write(view) :]
        self._hasher.update(chunk)
        self.watch.advance(len(chunk))

    def restart(self) -> None:
        """Discard everything, since it is not the expected content."""
        if self.here_bytes:
            self.watch.advance(-self.here_bytes)
            self._hasher = Hasher(self._wanted.expected)
            with self._writing():
                self._file.truncate(0)

    def seal(self) -> FileDigest:
        """Sync the file and return its digest, which must not outlive the bytes after a power cut."""
        with self._writing():
            os.fsync(self._file.fileno())
        return self._hasher.digest()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(error, self._path, self._wanted.label) from None


def download(hub: Hub, wanted: RemoteFile, part_path: Path, watch: Watch) -> FileDigest:
    """Complete the part file: on return its content is right; after a Failure it is resumable or gone."""
    for _ in range(2):
        with closing(Part(part_path, wanted, watch)) as part:
            _fill(hub, wanted, part)
            digest = part.seal()
        if digest.proves(wanted.expected):
            return digest
        part_path.unlink()
        watch.advance(-digest.size_bytes)
    raise Failure(f"{wanted.label}: downloaded twice, and its digest is not the listed one", UNTRUSTED)


def fetch_beginning(hub: Hub, wanted: RemoteFile, size_bytes: int, watch: Watch) -> bytes:
    """Return the first bytes of a file; no digest can check them before all of it is here."""
    import httpx2  # noqa: PLC0415  the client's HTTP library

    backoff = Backoff(wanted.label, "run the same command again later", hub.retry, watch.stop)
    while True:
        try:
            return _beginning(hub, wanted, size_bytes)
        except (httpx2.RequestError, httpx2.StreamError, client().errors.OfflineModeIsEnabled) as error:
            fault = broken(error, hub.endpoint)
        except Transient as transient:
            fault = transient
        if isinstance(fault, Failure):
            raise fault
        watch.check()
        backoff.wait(fault)


def _beginning(hub: Hub, wanted: RemoteFile, size_bytes: int) -> bytes:
    asked = {"range": f"bytes=0-{size_bytes - 1}"}
    with _asked(hub, wanted, asked) as answer:
        if answer.status_code not in (200, 206):
            raise _refused(hub, wanted, answer)
        _check_identity(hub, wanted, [*answer.history, answer])
        found = b""
        for chunk in answer.iter_raw():
            found += chunk
            if len(found) >= size_bytes:
                return found[:size_bytes]
    raise Transient("the body ended early")


def _fill(hub: Hub, wanted: RemoteFile, part: Part) -> None:
    import httpx2  # noqa: PLC0415  the client's HTTP library

    hint = "run the same command again later: what was downloaded is kept"
    backoff = Backoff(wanted.label, hint, hub.retry, part.watch.stop)
    while part.here_bytes < wanted.expected.size_bytes:
        began_bytes = part.here_bytes
        try:
            _get(hub, wanted, part)
        except (httpx2.RequestError, httpx2.StreamError, client().errors.OfflineModeIsEnabled) as error:
            fault = broken(error, hub.endpoint)
        except Transient as transient:
            fault = transient
        else:
            continue
        if isinstance(fault, Failure):
            raise fault
        part.watch.check()
        if part.here_bytes - began_bytes >= _REAL_PROGRESS_BYTES:
            backoff.reset()
        backoff.wait(fault)


def _get(hub: Hub, wanted: RemoteFile, part: Part) -> None:
    """Request what is missing."""
    asked = {"range": f"bytes={part.here_bytes}-"} if part.here_bytes else {}
    with _asked(hub, wanted, asked) as answer:
        if answer.status_code == 416:
            part.restart()
            raise Transient("the server cannot resume")
        if answer.status_code not in (200, 206):
            raise _refused(hub, wanted, answer)
        _check_identity(hub, wanted, [*answer.history, answer])
        _check_size(wanted, answer.headers, part)
        for chunk in answer.iter_raw():
            part.watch.check()
            if part.here_bytes + len(chunk) > wanted.expected.size_bytes:
                raise _wrong_size(wanted, "more")
            part.append(chunk)
    if part.here_bytes < wanted.expected.size_bytes:
        raise Transient("the body ended early")


@contextmanager
def _asked(hub: Hub, wanted: RemoteFile, asked: Mapping[str, str]) -> "Iterator[httpx2.Response]":
    """Request a body, or the range of it that is asked for."""
    import httpx2  # noqa: PLC0415

    retry = hub.retry
    # Identity, since offsets count the bytes of an uncompressed body.
    headers = {**hub.headers(), "accept-encoding": "identity", **asked}
    timeout = httpx2.Timeout(retry.read_timeout_s, connect=retry.connect_timeout_s, pool=None)
    session = client().utils.get_session()
    # httpx2 drops the token on a redirect to another origin (the CDN); a test checks that.
    url = wanted.url(hub)
    with session.stream("GET", url, headers=headers, timeout=timeout, follow_redirects=True) as answer:
        yield answer


def _refused(hub: Hub, wanted: RemoteFile, answer: "httpx2.Response") -> Exception:
    is_known = "authorization" in hub.headers()
    request = Request(hub.endpoint, wanted.repo, wanted.commit, wanted.name, is_known, wanted.kind)
    return refusal(request, answer.status_code, answer.headers)


def _check_identity(hub: Hub, wanted: RemoteFile, answers: "list[httpx2.Response]") -> None:
    """Compare the Hub's ETag; that of a CDN behind it is about the CDN's storage."""
    import httpx2  # noqa: PLC0415

    for answer in answers:
        if answer.url.origin != httpx2.URL(hub.endpoint).origin:
            continue
        etag = answer.headers.get("x-linked-etag")
        if etag is None and not answer.is_redirect:
            etag = answer.headers.get("etag")
        if etag is None:
            continue
        digest = etag.removeprefix("W/").strip('"')
        if not is_digest(digest):
            raise Failure(f"{wanted.label}: the ETag {etag[:80]!r} is not a digest", UNTRUSTED)
        if digest not in (wanted.expected.sha256, wanted.expected.git_sha1):
            raise Failure(f"{wanted.label}: the Hub offers another file than it lists", UNTRUSTED)
        linked = answer.headers.get("x-linked-size")
        if linked is not None and linked != str(wanted.expected.size_bytes):
            raise _wrong_size(wanted, linked)


def _check_size(wanted: RemoteFile, headers: Mapping[str, str], part: Part) -> None:
    """Check that the body continues where the part ends, and ends where the file does."""
    size = str(wanted.expected.size_bytes)
    if "content-range" in headers:
        span, _, total = headers["content-range"].removeprefix("bytes ").partition("/")
        if total not in (size, "*"):
            raise _wrong_size(wanted, total)
        if span.partition("-")[0] != str(part.here_bytes):
            part.restart()
            raise Transient("the server resumed at the wrong place")
        return
    if part.here_bytes:  # the server sends everything again
        part.restart()
    if headers.get("content-length", size) != size:
        raise _wrong_size(wanted, headers["content-length"])


def _wrong_size(wanted: RemoteFile, found: str) -> Failure:
    listed = wanted.expected.size_bytes
    return Failure(f"{wanted.label}: the Hub lists {listed} bytes and sends {found}", UNTRUSTED)


def unwritable(error: OSError, path: Path, label: str) -> Failure:
    """Turn an error of the disk into a Failure."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return Failure(
            f"{label}: no space left in {path.parent}",
            "free some, or set HF_HUB_CACHE to another disk; the next run resumes the download",
        )
    where = error.filename or path
    return Failure(f"{where}: cannot be used: {error.strerror}", "check the folder, or set HF_HUB_CACHE")

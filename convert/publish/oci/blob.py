"""Bring one content to a registry: whole if it is small, otherwise in chunks that can be resumed."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import urljoin

from convert.publish.bundle import ShippedFile
from convert.publish.listing import blocks
from convert.publish.oci.registry import Answer, Registry
from convert.source.retry import Transient

CHUNK_BYTES = 64 << 20

# What a registry answers that takes no chunks; the content then goes there in one piece.
_NO_CHUNKS = (400, 404, 405, 411, 415, 416, 501)


class _ChunksRefusedError(Exception):
    """The registry wants the content in one piece."""


@dataclass
class Push:
    """One content on its way."""

    registry: Registry
    file: ShippedFile
    advance: Callable[[int], None]
    chunk_bytes: int = CHUNK_BYTES
    reported_bytes: int = 0

    def run(self) -> None:
        """Bring it there; after a failure ask whether it is there: the answer alone may have been lost."""
        backoff, takes_chunks = self.registry.backoff(), self.file.size_bytes > self.chunk_bytes
        while True:
            try:
                if takes_chunks:
                    self._in_chunks()
                else:
                    self._in_one_piece()
            except _ChunksRefusedError:
                takes_chunks = False
            except Transient as fault:
                if self.registry.has_blob(self.file.sha256, self.file.size_bytes):
                    break
                for _ in blocks(self.file, lambda _: None):
                    pass  # what is sent and never accepted may have been changed here
                backoff.wait(fault)
            else:
                break
        self._report(self.file.size_bytes)

    def _in_one_piece(self) -> None:
        location, _ = self._begin()
        self._finish(location, self.file.size_bytes, lambda: self._read(0, self.file.size_bytes))

    def _in_chunks(self) -> None:
        location, least_bytes = self._begin()
        size_bytes = max(self.chunk_bytes, least_bytes)
        backoff, there_bytes = self.registry.backoff(), 0
        while there_bytes < self.file.size_bytes:
            try:
                location, reached_bytes = self._chunk(location, there_bytes, size_bytes)
                if reached_bytes <= there_bytes:
                    raise Transient("the registry does not take what is sent")  # noqa: TRY301 - as any failure
                backoff.reset()
            except Transient as fault:
                backoff.wait(fault)
                location, reached_bytes = self._ask_how_far(location, fault)
            there_bytes = reached_bytes
        self._finish(location, 0, None)

    def _begin(self) -> tuple[str, int]:
        """Open an upload; return where it goes to, and the least size of a chunk."""
        url = self.registry.url("blobs/uploads/")
        answer = self.registry.ask("POST", url, {"content-length": "0"}, allowed=(202,))
        least = re.fullmatch(r"[0-9]{1,12}", answer.headers.get("oci-chunk-min-length", ""))
        return self._location(url, answer), int(least[0]) if least else 0

    def _chunk(self, location: str, start: int, size_bytes: int) -> tuple[str, int]:
        """Send the next chunk; return where the one after it goes to, and how much is there then."""
        stop = min(start + size_bytes, self.file.size_bytes)
        headers = {
            "content-type": "application/octet-stream",
            "content-range": f"{start}-{stop - 1}",
            "content-length": str(stop - start),
        }
        allowed = (202, *_NO_CHUNKS) if start == 0 else (202, 416)
        answer = self.registry.once(
            "PATCH", location, headers, lambda: self._read(start, stop - start), allowed=allowed
        )
        if answer.status == 416 and start:
            raise Transient("the registry has another part of it")
        if answer.status != 202:
            raise _ChunksRefusedError
        return self._location(location, answer), self._reached(answer, stop)

    def _ask_how_far(self, location: str, fault: Transient) -> tuple[str, int]:
        """Ask after a failure where to go on, and from which byte; raise it where all must be sent again."""
        answer = self.registry.ask("GET", location, allowed=(204, 400, 404))
        if answer.status != 204:
            raise fault
        return self._location(location, answer), self._reached(answer, 0)

    def _finish(self, location: str, size_bytes: int, content: Callable[[], Iterator[bytes]] | None) -> None:
        mark = "&" if "?" in location else "?"
        headers = {"content-type": "application/octet-stream", "content-length": str(size_bytes)}
        url = f"{location}{mark}digest=sha256:{self.file.sha256}"
        work_bytes = self.file.size_bytes
        self.registry.once("PUT", url, headers, content or b"", allowed=(201,), work_bytes=work_bytes)

    def _read(self, start: int, size_bytes: int) -> Iterator[bytes]:
        self._report(start)
        yield from blocks(
            self.file, lambda count: self._report(self.reported_bytes + count), start, size_bytes
        )

    def _report(self, there_bytes: int) -> None:
        """Report how much is there; what must be sent again is taken back."""
        self.advance(there_bytes - self.reported_bytes)
        self.reported_bytes = there_bytes

    def _location(self, url: str, answer: Answer) -> str:
        try:
            return urljoin(url, answer.headers["location"])
        except (KeyError, ValueError):
            raise self.registry.strange("does not say where an upload goes") from None

    def _reached(self, answer: Answer, supposed: int) -> int:
        """Return how much the registry says is there: `0-99` are 100 bytes."""
        match = re.fullmatch(r"(?:bytes=)?0-(\d{1,15})", answer.headers.get("range", ""))
        reached = int(match[1]) + 1 if match else supposed
        # A registry that has nothing says 0-0, and so does one that has one byte.
        return 0 if reached <= 1 else min(reached, self.file.size_bytes)

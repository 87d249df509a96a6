"""One request to an OpenAI-compatible server, and its answer as a stream of events."""

import http.client
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from convert.errors import Failure
from convert.strict_json import parse
from verify.runtimes._local import one_line

MAX_LINE_BYTES = 1 << 20
MAX_ANSWER_BYTES = 64 << 20


def _no_process() -> None:
    """Know nothing of the server's process: it is elsewhere."""


@dataclass(frozen=True)
class Server:
    """A server's address and key; the key is sent, and never shown."""

    base: str
    timeout_s: float
    key: str | None = field(default=None, repr=False)
    check: Callable[[], None] = field(default=_no_process, repr=False)  # raises where its process has ended

    def connect(self) -> http.client.HTTPConnection:
        """Open a new connection; redirects are not followed, so that the key stays with this host."""
        parts = urlsplit(self.base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"{self.base}: is not a server's address", "it looks like http://localhost:8000/v1")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname, parts.port, timeout=self.timeout_s)
        try:
            connection.connect()
        except OSError as fault:
            self.check()
            raise Failure(
                f"no server answers at {self.base}: {fault}", "start it, or correct the address"
            ) from None
        return connection

    def get(self, path: str) -> Any:
        """Ask for a small document."""
        return self._ask("GET", path, None, MAX_LINE_BYTES)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask, and return the answer whole."""
        return self._ask("POST", path, json.dumps(body).encode(), MAX_ANSWER_BYTES)

    def _ask(self, method: str, path: str, body: bytes | None, most_bytes: int) -> Any:
        connection = self.connect()
        try:
            response = self._send(connection, method, path, body)
            return parse(response.read(most_bytes), path, "")
        except (OSError, http.client.HTTPException) as fault:
            raise self._broken(path, fault) from None
        finally:
            connection.close()

    def stream(
        self, connection: http.client.HTTPConnection, path: str, body: dict[str, Any]
    ) -> Iterator[Any]:
        """Ask, and yield each event as it arrives, to the last."""
        try:
            response = self._send(connection, "POST", path, json.dumps(body).encode())
            yield from self._events(path, response)
        except (OSError, http.client.HTTPException) as fault:
            raise self._broken(path, fault) from None

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        connection.request(method, urlsplit(self.base).path.rstrip("/") + path, body, headers)
        response = connection.getresponse()
        if response.status != http.client.OK:
            said = response.read(MAX_LINE_BYTES).decode("utf-8", "replace")
            raise self._failure(path, f"the server answers {response.status}: {one_line(said)}")
        return response

    def _events(self, path: str, response: http.client.HTTPResponse) -> Iterator[Any]:
        while line := response.readline(MAX_LINE_BYTES):
            name, _, data = line.strip().partition(b":")
            if name != b"data":  # a comment that keeps the line open, an empty line, or another field
                continue
            if data.strip() == b"[DONE]":
                return
            try:
                event = parse(data, "an event", "")
            except Failure:
                said = one_line(data.decode("utf-8", "replace"))
                raise self._failure(path, f"an event is not JSON: {said}") from None
            if not isinstance(event, dict) or "error" in event:
                raise self._failure(path, f"the server breaks off: {one_line(json.dumps(event))}")
            yield event
        self.check()
        raise self._failure(path, "the server broke off its answer before the end")

    def _broken(self, path: str, fault: Exception) -> Failure:
        self.check()
        if isinstance(fault, TimeoutError):
            return self._failure(path, f"the server was silent for {self.timeout_s:g} s")
        return self._failure(path, f"the connection broke: {type(fault).__name__}: {fault}")

    def _failure(self, path: str, what: str) -> Failure:
        return Failure(f"{self.base}{path}: {what}")

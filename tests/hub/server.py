"""A Hub on loopback: the calls of the real one that the project makes, and its bad days on demand.

Which calls it answers is two tables of routes, those by which a Hub is read and those by which it is written.
"""

import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from tests.hub import reading, writing
from tests.hub.reading import Route
from tests.hub.repo import Refused, Repo

CHUNK_BYTES = 16 << 10


@dataclass
class Fault:
    """Something that goes wrong, for the next `times` requests whose path contains `path`."""

    # Of answers: status | reset | cut | slow | flip | size | etag | no-range | stall | lost (done, not said);
    # of what is sent here: flip | cut-upload | slow-upload.
    kind: str
    path: str = "/resolve/"
    times: int = 1
    method: str = ""  # any
    status: int = 503
    headers: dict[str, str] = field(default_factory=dict)
    after_bytes: int = 0  # of the body: where it happens
    pause_s: float = 0.0  # between chunks of a slow body


@dataclass
class Murder:
    """The client dies by the server's hand, before or after one of its requests is carried out."""

    pid: int
    at: int  # which request, counted from 0
    is_after: bool
    requests: int = 0
    is_done: bool = False

    def strike(self) -> None:
        """Kill it."""
        self.is_done = True
        os.kill(self.pid, signal.SIGKILL)


@dataclass
class Exchange:
    """One request as it came, and what was sent."""

    method: str
    path: str
    range: str | None
    authorization: str | None
    status: int = 0
    sent_bytes: int = 0


class _Quiet(ThreadingHTTPServer):
    """Clients that die or hang up are what the tests are about, and no news."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class HubServer:
    """The server; its repos, users and faults may change while it runs."""

    def __init__(
        self,
        cdn: "HubServer | None" = None,
        routes: Sequence[Route] = (*reading.ROUTES, *writing.ROUTES),
    ) -> None:
        self.routes = routes
        self.cdn = cdn  # where LFS bodies are redirected to, if anywhere
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.users: dict[str, str] = {}  # token → user
        self.roles: dict[str, str] = {}  # user → what the token may do, where not write
        self.orgs: dict[str, set[str]] = {}
        self.collections: dict[str, dict[str, Any]] = {}  # by slug
        self.part_bytes: int | None = None  # larger uploads come in parts
        self.parts: dict[tuple[str, int], bytes] = {}
        self.page_size: int | None = None
        self.murder: Murder | None = None
        self.blobs: dict[str, bytes] = {}  # what a CDN serves
        self.faults: list[Fault] = []
        self.log: list[Exchange] = []
        self.lock = threading.Lock()
        handler = type("Handler", (Handler,), {"hub": self})
        self._http = _Quiet(("127.0.0.1", 0), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.endpoint = f"http://127.0.0.1:{self._http.server_address[1]}"

    def add(self, name: str, files: dict[str, bytes], **settings: Any) -> Repo:
        """Put a repo on the Hub."""
        repo = Repo(name, **settings)
        repo.commit(files)
        self.repos[name] = repo
        return repo

    def take_fault(self, path: str, method: str) -> Fault | None:
        """Take the fault for this request, which then has one occurrence fewer."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and fault.path in path and fault.method in ("", method):
                    fault.times -= 1
                    return fault
        return None

    def bodies(self, name: str) -> list[Exchange]:
        """List the downloads of one file, in the order in which they began."""
        return [
            exchange
            for exchange in self.log
            if exchange.path.endswith(f"/{name}") and exchange.method == "GET"
        ]

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    hub: HubServer
    doomed: Murder | None
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for an acknowledgement
    exchange: Exchange
    fault: Fault | None

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it so
        """Log nothing: the log is `hub.log`."""

    def answer(self) -> None:
        """Find the row of the table and let it answer."""
        url = urlsplit(self.path)
        self.query = {key: values[-1] for key, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.fault = self.hub.take_fault(url.path, self.command)
        self.doomed = self._doomed()
        self.exchange = Exchange(
            self.command, url.path, self.headers.get("range"), self.headers.get("authorization")
        )
        self.hub.log.append(self.exchange)
        try:
            self.body = self._received()
            if self.doomed and not self.doomed.is_after:
                self.doomed.strike()
                self.close_connection = True
                return
            if self.fault and self.fault.kind == "status":
                self.send(b"", self.fault.headers, status=self.fault.status)
                return
            if self.fault and self.fault.kind == "reset" and not self.fault.after_bytes:
                self.reset()
                return
            self.dispatch(url.path)
        except Refused as refused:
            headers = {"X-Error-Code": refused.code} if refused.code else {}
            self.send(b'{"error":"refused"}', headers, status=refused.status)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _doomed(self) -> Murder | None:
        murder = self.hub.murder
        if murder is None or murder.is_done:
            return None
        with self.hub.lock:
            number, murder.requests = murder.requests, murder.requests + 1
        return murder if number == murder.at else None

    def _received(self) -> bytes:
        """Read the body, as the fault changes it."""
        fault = self.fault or Fault("none")
        body = bytearray()
        for chunk in self._chunks():
            body += chunk
            if fault.kind == "slow-upload":
                time.sleep(fault.pause_s)
            if fault.kind == "cut-upload" and len(body) > fault.after_bytes:
                self.reset()
                raise ConnectionResetError
        if fault.kind == "flip" and self.command in ("PATCH", "POST", "PUT") and body:
            body[fault.after_bytes] ^= 1
        return bytes(body)

    def _chunks(self) -> Iterator[bytes]:
        left = int(self.headers.get("content-length") or 0)
        if self.headers.get("transfer-encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        while left > 0:
            chunk = self.rfile.read(min(left, CHUNK_BYTES))
            if not chunk:
                raise ConnectionResetError
            left -= len(chunk)
            yield chunk

    def dispatch(self, path: str) -> None:
        """Let the first row that fits answer."""
        for methods, pattern, handle in self.hub.routes:
            match = re.fullmatch(pattern, path)
            if match and self.command in methods.split("|"):
                named = {key: unquote(value or "") for key, value in match.groupdict().items()}
                new_name = self.hub.renamed.get(named.get("repo", ""))
                if new_name:
                    location = self.path.replace(f"/{named['repo']}", f"/{new_name}", 1)
                    self.send(b"", {"Location": location}, status=307)
                else:
                    handle(self, **named)
                return
        raise Refused(404)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  the base class names them so

    def send(self, body: bytes, headers: dict[str, str], *, status: int = 200) -> None:
        """Answer, with what the fault makes of the body."""
        self.exchange.status = status
        if self.doomed:
            self.doomed.strike()
            self.close_connection = True
            return
        if self.fault and self.fault.kind == "lost":
            self.reset()
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(body)

    def _send_body(self, body: bytes) -> None:
        fault = self.fault or Fault("none")
        for start in range(0, len(body), CHUNK_BYTES):
            chunk = body[start : start + CHUNK_BYTES]
            if fault.kind in {"reset", "cut", "stall"} and start + len(chunk) > fault.after_bytes:
                self._write(chunk[: fault.after_bytes - start])
                self.close_connection = True
                if fault.kind == "reset":
                    self.reset()
                if fault.kind == "stall":
                    time.sleep(fault.pause_s)
                return
            if fault.kind == "slow":
                time.sleep(fault.pause_s)
            self._write(chunk)

    def _write(self, chunk: bytes) -> None:
        self.wfile.write(chunk)
        self.exchange.sent_bytes += len(chunk)

    def reset(self) -> None:
        """Hang up as a dying server does."""
        # What was sent should arrive: a reset throws away what the client has not read yet.
        time.sleep(0.05)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def finish(self) -> None:
        """Close, also what was reset."""
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def send_json(
        self, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer a call of the API."""
        all_headers = {"Content-Type": "application/json", **(headers or {})}
        self.send(json.dumps(value).encode(), all_headers, status=status)

    def send_page(self, entries: list[Any]) -> None:
        """Answer with a list, page by page where the pages are short."""
        size = self.hub.page_size or max(1, len(entries))
        start = int(self.query.get("cursor", "0"))
        more = start + size < len(entries)
        query = urlencode({**self.query, "cursor": start + size})
        link = f'<{self.hub.endpoint}{urlsplit(self.path).path}?{query}>; rel="next"'
        self.send_json(entries[start : start + size], headers={"Link": link} if more else {})

    def user(self) -> str | None:
        """Return the user of the request."""
        token = (self.headers.get("authorization") or "").removeprefix("Bearer ")
        if token and token not in self.hub.users:
            raise Refused(401)
        return self.hub.users.get(token)

    def open(self, name: str, revision: str = "main", *, is_content: bool = False) -> tuple[Repo, str]:
        """Find the repo and commit, if this user may see them."""
        user = self.user()
        repo = self.hub.repos.get(name)
        members = self.hub.orgs.get(name.partition("/")[0], set())
        if repo is None or not (repo.may_read(user) or user in members):
            raise Refused(401 if user is None else 404, "RepoNotFound")
        if is_content and repo.is_gated and user not in repo.readers:
            raise Refused(401 if user is None else 403, "GatedRepo")
        commit = repo.find(revision or "main")
        if commit is None:
            raise Refused(404, "RevisionNotFound")
        return repo, commit

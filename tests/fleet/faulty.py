"""A server on loopback that hands requests on to another, and makes some of them fail as networks do."""

from __future__ import annotations

import http.client
import socket
import struct
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SLOW_S = 0.5
# What comes before a request is handed on, or in place of its answer.
FAULTS = ("reset", "busy", "slow", "lost")


class Proxy:
    """Where requests go by; `fault` gets each one's number, method and path, and names what happens to it."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.fault: Callable[[int, str, str], str | None] = lambda *_: None
        self.count = 0
        self.met: list[str] = []
        self._lock = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _any(self) -> None:
                proxy.handle(self)

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 - as its base calls them

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        body = _body(request)
        with self._lock:
            self.count += 1
            fault = self.fault(self.count, request.command, request.path)
            self.met += [fault] if fault else []
        if fault == "reset":
            _reset(request)
            return
        if fault == "busy":
            _answer(request, 503, [], b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>")
            return
        if fault == "slow":
            time.sleep(SLOW_S)
        connection = http.client.HTTPConnection("127.0.0.1", self.target)
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in ("transfer-encoding", "expect", "connection", "content-length")
        }
        if request.command in ("PUT", "POST"):
            headers["Content-Length"] = str(len(body))
        connection.request(request.command, request.path, body, headers)
        answer = connection.getresponse()
        data = answer.read()
        if fault == "lost":
            _reset(request)
        else:
            _answer(request, answer.status, answer.getheaders(), data)
        connection.close()


@contextmanager
def proxied(port: int) -> Iterator[Proxy]:
    """Open a way to a server that can be made to fail."""
    proxy = Proxy(port)
    thread = threading.Thread(target=proxy.server.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        proxy.server.shutdown()
        proxy.server.server_close()


def _body(request: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in request.headers.get("Transfer-Encoding", ""):
        return request.rfile.read(int(request.headers.get("Content-Length", 0)))
    data = b""
    while size := int(request.rfile.readline().split(b";")[0], 16):
        data += request.rfile.read(size)
        request.rfile.readline()
    while request.rfile.readline().strip():
        pass
    return data


def _answer(
    request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], data: bytes
) -> None:
    request.send_response_only(status)
    for name, value in headers:
        if name.lower() not in ("transfer-encoding", "connection", "content-length"):
            request.send_header(name, value)
    length = {name.lower(): value for name, value in headers}.get("content-length")
    is_head = request.command == "HEAD"
    request.send_header("Content-Length", length if is_head and length else str(len(data)))
    request.end_headers()
    if not is_head:
        request.wfile.write(data)


def _reset(request: BaseHTTPRequestHandler) -> None:
    """Close with a reset instead of an end."""
    request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.close_connection = True
    request.connection.close()

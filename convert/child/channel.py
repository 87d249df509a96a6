"""Messages between a parent and its child: a JSON header, and bytes for arrays.

    MWv1 | header length u32 | payload length u64 | header, JSON in UTF-8 | payload

All little-endian, over a socket: what native code prints to stdout can't come between. The parent
sends ``{"call", "args"}`` or ``{"cancel": true}``; the child answers with any number of ``{"part": true, …}``
and then one ``{"done": {…}}`` or ``{"fault": …, "reason": …}``. Nothing is pickled.
"""

import json
import math
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

MAGIC = b"MWv1"
PREFIX = struct.Struct("<4sIQ")
MAX_HEADER_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = 256 << 20
# How long the other side's death can stay unseen when something else holds its end of the socket open.
POLL_S = 0.05

Header = dict[str, Any]


class GarbledError(Exception):
    """What arrived is no message."""


class GoneError(Exception):
    """The other side has closed its end, or died."""


class LateError(Exception):
    """Nothing, or not all of it, arrived in time."""


class Channel:
    """One end of the socket; sends and receives whole messages."""

    def __init__(self, end: socket.socket, is_alive: Callable[[], bool] | None = None) -> None:
        self._end = end
        self._is_alive = is_alive
        self.waited_s, self.until_s = 0.0, math.inf  # so long it has waited for the other side, and may
        self._sending = threading.Lock()

    def send(self, header: Header, payload: bytes | memoryview = b"") -> None:
        """Send one message, from any thread."""
        body = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")
        with self._sending:
            self._send_all(memoryview(PREFIX.pack(MAGIC, len(body), len(payload)) + body))
            self._send_all(memoryview(payload).cast("B"))

    def receive(self) -> tuple[Header, bytearray]:
        """Wait for one message."""
        magic, header_bytes, payload_bytes = PREFIX.unpack(self._take(PREFIX.size))
        if magic != MAGIC:
            raise GarbledError(f"the message begins with {bytes(magic)!r}")
        if header_bytes > MAX_HEADER_BYTES or payload_bytes > MAX_PAYLOAD_BYTES:
            raise GarbledError(f"a message of {header_bytes} + {payload_bytes} bytes is too long")
        text = self._take(header_bytes)
        try:
            header = json.loads(text)
        except (ValueError, RecursionError):
            raise GarbledError("the message's header is no JSON") from None
        if not isinstance(header, dict):
            raise GarbledError("the message's header is no object")
        return header, self._take(payload_bytes)

    def has_arrived(self) -> bool:
        """Tell whether there is something to receive."""
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return bool(poll.poll(0))

    def close(self) -> None:
        """Close this end."""
        self._end.close()

    def _send_all(self, view: memoryview) -> None:
        while view:
            view = view[self._transfer(partial(self._end.send, view)) :]

    def _take(self, count: int) -> bytearray:
        taken = bytearray(count)
        view = memoryview(taken)
        while view:
            got = self._transfer(partial(self._end.recv_into, view))
            if not got:
                raise GoneError
            view = view[got:]
        return taken

    def _transfer(self, some_bytes: Callable[[], int]) -> int:
        """Wait until some bytes can be transferred, the other side is dead, or time is up."""
        is_dead = False
        while (left_s := self.until_s - self.waited_s) > 0:
            pause = min(left_s, math.inf if self._is_alive is None else POLL_S)
            self._end.settimeout(0.0 if is_dead else None if pause == math.inf else pause)
            began_s = time.monotonic()
            try:
                return some_bytes()
            except (TimeoutError, BlockingIOError):
                if is_dead:
                    raise GoneError from None
                is_dead = self._is_alive is not None and not self._is_alive()
            except OSError:
                raise GoneError from None
            finally:
                # What goes beyond the pause, this process itself did not run: it was stopped, or slept.
                self.waited_s += min(time.monotonic() - began_s, pause)
        raise LateError

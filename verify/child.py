"""The child's side: opens one artifact in one runtime, and answers until the parent has heard enough."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import threading
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from verify.fault import FaultKind
from verify.limits import confine
from verify.protocol import PROTOCOL, Channel, GoneError, Header, pack
from verify.runtimes import Request, Runtime, Settings, find_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

ORPHAN_CHECK_S = 0.5
# A template is a stranger's program: this much CPU time, over all threads, is far more than any needs.
TEMPLATE_CPU_S = 2.0
# A frame of logits; more rows go in more frames.
FRAME_BYTES = 16 << 20
# Tokens are sent together when they come fast: a parent that wakes for each takes the core from the next.
FLUSH_S = 0.1


def main(fd: int, memory_bytes: int) -> None:
    """Serve the parent on this socket until it closes it."""
    faulthandler.enable(all_threads=False)
    confine(memory_bytes)
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()
    channel = Channel(socket.socket(fileno=fd))
    with suppress(GoneError):
        Server(channel).serve()
    # Natives may crash while they are torn down; what they had to say has been said.
    sys.stderr.flush()
    os._exit(0)


def _die_with(parent: int) -> None:
    """A parent that was killed could not kill us."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_S)
    os.killpg(0, signal.SIGKILL)


class Server:
    """Takes one call at a time, and answers it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._runtime: Runtime | None = None
        self._calls: dict[str, Callable[[Header], Header]] = {
            "open": self._open,
            "tokenize": self._tokenize,
            "detokenize": self._detokenize,
            "template": self._template,
            "logits": self._logits,
            "generate": self._generate,
            "together": self._together,
            "cache": self._cache,
        }

    def serve(self) -> None:
        """Answer until the parent is gone."""
        while True:
            header, _ = self._channel.receive()
            if "cancel" in header:  # of an answer that was complete before the parent changed its mind
                continue
            self._channel.send(self._answer(header))

    def _answer(self, header: Header) -> Header:
        name = header["call"]
        try:
            if name != "open" and name not in self._opened.info.can:
                return _fault(FaultKind.UNSUPPORTED, f"{self._opened.info.runtime} has no call {name!r}")
            return {"done": self._calls[name](header["args"])}
        except Failure as failure:
            return _fault(FaultKind.REFUSED, failure.message)
        except MemoryError:
            traceback.print_exc(limit=-4)
            return _fault(FaultKind.OUT_OF_MEMORY, "it could not get the memory that it asked for")
        except GoneError:
            raise
        except Exception as error:  # noqa: BLE001  (whatever a runtime raises is a finding about the artifact)
            traceback.print_exc(limit=-4)
            return _fault(FaultKind.CRASHED, f"{type(error).__name__}: {' '.join(str(error).split())[:500]}")

    @property
    def _opened(self) -> Runtime:
        if self._runtime is None:
            raise Failure("nothing is open yet", "open comes first")
        return self._runtime

    def _open(self, args: Header) -> Header:
        module = find_runtime(args["runtime"])
        versions = module.preload()
        settings = Settings(**args["settings"])
        start = time.perf_counter()
        self._runtime = module.open_runtime(args["path"], settings)
        load_s = time.perf_counter() - start
        return {
            "protocol": PROTOCOL,
            "info": asdict(self._opened.info),
            "load_s": load_s,
            "versions": versions,
        }

    def _tokenize(self, args: Header) -> Header:
        return {"ids": self._opened.tokenize(args["text"], special=args["special"], add_bos=args["add_bos"])}

    def _detokenize(self, args: Header) -> Header:
        return {"text": self._opened.detokenize(args["ids"])}

    def _template(self, args: Header) -> Header:
        return {"text": self._lay_out(args["messages"], add_generation_prompt=args["add_generation_prompt"])}

    def _logits(self, args: Header) -> Header:
        rows = 0
        for block in self._opened.logits(args["ids"]):
            step = max(1, FRAME_BYTES // (4 * block.shape[1]))
            for start in range(0, len(block), step):
                if self._is_cancelled():
                    return {"rows": rows, "cancelled": True}
                part, payload = pack(block[start : start + step])
                self._channel.send({"part": True, **part}, payload)
                rows += part["shape"][0]
        return {"rows": rows}

    def _generate(self, args: Header) -> Header:
        return self._stream(self._opened.generate(self._as_ids(_request(args))))

    def _together(self, args: Header) -> Header:
        requests = [self._as_ids(_request(one)) for one in args["requests"]]
        return self._stream(self._opened.together(requests))

    def _stream(self, pieces: Generator[Any, None, None]) -> Header:
        waiting: list[Header] = []
        sent_s = -FLUSH_S
        for piece in pieces:
            waiting.append(asdict(piece))
            if (now_s := time.monotonic()) - sent_s >= FLUSH_S:
                self._channel.send({"part": True, "items": waiting})
                waiting, sent_s = [], now_s
            if self._is_cancelled():
                pieces.close()
                return {"cancelled": True}
        self._channel.send({"part": True, "items": waiting})
        return {}

    def _cache(self, _: Header) -> Header:
        return {"bytes": self._opened.cache_bytes()}

    def _is_cancelled(self) -> bool:
        if not self._channel.has_arrived():
            return False
        self._channel.receive()  # while an answer is under way the parent sends nothing else
        return True

    def _as_ids(self, request: Request) -> Request:
        """A runtime with a tokenizer gets ids, a server gets what a person would send it."""
        can = self._opened.info.can
        if request.ids is not None or "tokenize" not in can:
            return request
        if request.messages is not None:
            # The template writes the markup itself, a beginning-of-text token included where it wants one.
            text, adds_bos = self._lay_out(request.messages, add_generation_prompt=True), False
        else:
            text, adds_bos = request.text or "", True
        ids = self._opened.tokenize(text, special=True, add_bos=adds_bos)
        return Request(**{**vars(request), "ids": tuple(ids), "text": None, "messages": None})

    def _lay_out(self, messages: Any, *, add_generation_prompt: bool) -> str:
        with CpuLimit(TEMPLATE_CPU_S):
            return self._opened.template(messages, add_generation_prompt=add_generation_prompt)


class CpuLimit:
    """Raises in the main thread when the block inside has burnt too much CPU time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        signal.signal(signal.SIGPROF, _over)
        signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _over(_: int, __: FrameType | None) -> None:
    raise Failure("the chat template takes more CPU time than any template needs", "it may be made to hang")


def _request(args: Header) -> Request:
    given = dict(args)
    for name in ("ids", "messages", "stop", "stop_ids"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    return Request(**given)


def _fault(kind: FaultKind, reason: str) -> Header:
    return {"fault": kind.value, "reason": reason}

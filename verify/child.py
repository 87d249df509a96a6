"""The worker's side: opens one artifact in one runtime, and answers the parent's calls."""

from __future__ import annotations

import signal
import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from convert.child import ChildFailure, Fault, FaultKind
from convert.errors import Failure
from verify.protocol import pack
from verify.runtimes import Request, Runtime, Settings, find_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import FrameType

    from convert.child.channel import Channel, Header

# A template is a stranger's program: this much CPU time, over all threads, is far more than any needs.
TEMPLATE_CPU_S = 2.0
# A message of logits; more rows go in more messages.
MESSAGE_BYTES = 16 << 20
# Tokens are sent together when they come fast: a parent that wakes for each takes the core from the next.
FLUSH_S = 0.1


def serve(channel: Channel) -> dict[str, Callable[[Header], Header]]:
    """List the calls that a worker answers."""
    return Server(channel).calls


class Server:
    """One runtime with an artifact open in it."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._runtime: Runtime | None = None
        able: dict[str, Callable[[Header], Header]] = {
            "tokenize": self._tokenize,
            "detokenize": self._detokenize,
            "template": self._template,
            "logits": self._logits,
            "generate": self._generate,
            "together": self._together,
            "cache": self._cache,
        }
        self.calls: dict[str, Callable[[Header], Header]] = {
            "open": self._open,
            **{name: partial(self._if_able, name, able[name]) for name in able},
        }

    def _if_able(self, name: str, call: Callable[[Header], Header], args: Header) -> Header:
        if name not in self._opened.info.can:
            reason = f"{self._opened.info.runtime} has no call {name!r}"
            raise ChildFailure(Fault(FaultKind.UNSUPPORTED, reason))
        return call(args)

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
            step = max(1, MESSAGE_BYTES // (4 * block.shape[1]))
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
        """Make ids for a runtime with a tokenizer; a server gets the text or the messages."""
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
    """Raises in the main thread when the block inside has used too much CPU time."""

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

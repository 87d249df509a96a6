"""The worker's side: opens one artifact in one runtime, and answers the parent's calls."""

from __future__ import annotations

import signal
import time
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from convert.child import ChildFailure, Fault, FaultKind
from convert.errors import Failure
from verify.protocol import pack
from verify.runtimes import Finished, Request, Runtime, RuntimeSettings, find_runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    import numpy as np
    from numpy.typing import NDArray

    from convert.child.channel import Channel, Header

    Parts = Generator[tuple[Header, bytes | memoryview], None, None]

# A template is a stranger's program: this much CPU time, over all threads, is far more than any needs.
TEMPLATE_CPU_S = 2.0
# A message of logits; more rows go in more messages.
MESSAGE_BYTES = 16 << 20
# Tokens are sent together when they come fast: a parent that wakes for each takes the core from the next.
FLUSH_S = 0.1


class Server:
    """One runtime with an artifact open in it, which answers calls by name."""

    _runtime: Runtime  # after the first call, which is "open"

    def __init__(self, _: Channel) -> None:
        """Take a channel that is not needed here."""

    def __call__(self, name: str, args: Header) -> Header | Parts:
        """Answer a call of the worker's."""
        if name == "open":
            return self._open(args)
        runtime = self._runtime
        if name == "seats" and "advance" in runtime.info.can:
            return {"count": runtime.seats()}
        if name not in runtime.info.can:
            raise ChildFailure(Fault(FaultKind.UNSUPPORTED, f"{runtime.info.runtime} has no call {name!r}"))
        calls: dict[str, Callable[[], Header | Parts]] = {
            "tokenize": lambda: {"ids": runtime.tokenize(**args)},
            "detokenize": lambda: {"text": runtime.detokenize(**args)},
            "template": lambda: {"text": self._lay_out(**args)},
            "logits": lambda: _in_blocks(runtime.logits(**args)),
            "generate": lambda: _batched(runtime.generate(self._request(args))),
            "together": lambda: _batched(runtime.together(list(map(self._request, args["requests"])))),
            "advance": lambda: self._advance(args["added"]),
            "cache": lambda: {"bytes": runtime.cache_bytes()},
            "top_logprobs": lambda: _in_blocks(runtime.top_logprobs(**args)),
            "load": lambda: self._load(**args),
            "count": lambda: {"tokens": runtime.count(self._request(args))},
            "force": lambda: dict(zip(("text", "end"), runtime.force(**args), strict=True)),
        }
        return calls[name]()

    def _open(self, args: Header) -> Header:
        module = find_runtime(args["runtime"])
        versions = module.preload()
        settings = RuntimeSettings(**args["settings"])
        start = time.perf_counter()
        self._runtime = module.open_runtime(args["path"], settings)
        load_s = time.perf_counter() - start
        return {"info": asdict(self._runtime.info), "load_s": load_s, "versions": versions}

    def _advance(self, added: list[tuple[int, Header]]) -> Header:
        """Go on with all seats; a request that makes no sense fails alone."""
        requests: list[tuple[int, Request]] = []
        refused: list[Finished] = []
        for seat, args in added:
            try:
                requests.append((seat, self._request(args)))
            except Failure as failure:
                refused.append(Finished(seat, failure.message, None))
        # What was taken goes on with the next call, which adds nothing new to it.
        done = self._runtime.advance(requests) if requests or not refused else []
        return {"finished": [asdict(each) for each in (*refused, *done)]}

    def _load(self, requests: list[Header], users: int | None, due_s: list[float]) -> Parts:
        """Answer many requests; each is handed on as it ends."""
        return _batched(self._runtime.load(list(map(self._request, requests)), users, due_s))

    def _request(self, args: Header) -> Request:
        """Read a request, with ids for a runtime with a tokenizer, unless that is to be judged as well."""
        given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
        request = Request(**given)
        info = self._runtime.info
        if request.ids is not None or info.takes_text or "tokenize" not in info.can:
            return request
        if request.messages is not None:
            # The template writes the markup itself, a beginning-of-text token included where it wants one.
            text, adds_bos = self._lay_out(request.messages, add_generation_prompt=True), False
        else:
            text, adds_bos = request.text or "", True
        ids = self._runtime.tokenize(text, special=True, add_bos=adds_bos)
        return replace(request, ids=tuple(ids), text=None, messages=None)

    def _lay_out(self, messages: Any, *, add_generation_prompt: bool) -> str:
        with cpu_limit(TEMPLATE_CPU_S):
            return self._runtime.template(messages, add_generation_prompt=add_generation_prompt)


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise in the main thread when the block inside has used too much CPU time.

    Handlers run between Python's own steps. What stays within one for as long again ends with the process.
    """

    def over(*_: object) -> None:
        raise Failure(
            "the chat template takes more CPU time than any template needs", "it may be made to hang"
        )

    signal.signal(signal.SIGPROF, over)
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_VIRTUAL, 2 * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _in_blocks(logits: Iterator[NDArray[np.float32]]) -> Parts:
    for rows in logits:
        step = max(1, MESSAGE_BYTES // (4 * rows.shape[1]))
        for start in range(0, len(rows), step):
            yield pack(rows[start : start + step])


def _batched(pieces: Generator[Any, None, None]) -> Parts:
    waiting: list[Header] = []
    sent_s = -FLUSH_S
    with closing(pieces):
        for piece in pieces:
            waiting.append(asdict(piece))
            if (now_s := time.monotonic()) - sent_s >= FLUSH_S:
                yield {"items": waiting}, b""
                waiting, sent_s = [], now_s
    yield {"items": waiting}, b""

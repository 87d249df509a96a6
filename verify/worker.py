"""One artifact, open in a process of its own; whatever happens there is a `Fault` here."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Self, TypeVar

from verify.fault import SURVIVABLE, Fault, FaultKind, WorkerFailure
from verify.limits import Limits
from verify.process import Process
from verify.protocol import PROTOCOL, Channel, GarbledError, GoneError, Header, LateError, unpack
from verify.runtimes import Info, Piece, Request, Settings, Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from verify.memory import Peaks


T = TypeVar("T")


@dataclass(frozen=True)
class Launch:
    """What to open, in which runtime, and the most it may take."""

    runtime: str
    path: str | Path  # a folder, a file, or a server's address
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    secret_names: tuple[str, ...] = ()  # environment variables that this runtime needs (a server's key)


class Worker:
    """A child with an artifact open; a call that fails raises `WorkerFailure`, and the parent carries on.

    After a refusal the child still answers. After anything else it is gone, and later calls say so again.
    """

    def __init__(self, launch: Launch) -> None:
        """Start the child and open the artifact."""
        self.launch = launch
        self._fault: Fault | None = None
        self._is_busy = self._is_closed = False
        self._left_s = launch.limits.total_s
        self._process = Process(launch.limits, launch.secret_names)
        self._channel = Channel(self._process.socket, self._process.is_alive)
        try:
            args = {"runtime": launch.runtime, "path": str(launch.path), "settings": asdict(launch.settings)}
            opened = self._call("open", args, _opened, seconds=launch.limits.open_s)
            self.info, self.load_s, self.versions = opened
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def fault(self) -> Fault | None:
        """What ended the child, if something did."""
        return self._fault

    def tokenize(self, text: str, *, special: bool = False, add_bos: bool = False) -> list[int]:
        """Text to ids: `special` reads markup such as <|im_end|>, `add_bos` wraps as the model's own does."""
        args = {"text": text, "special": special, "add_bos": add_bos}
        return self._call("tokenize", args, lambda done: [int(token) for token in done["ids"]])

    def detokenize(self, ids: Sequence[int]) -> str:
        """Ids to text, markup shown."""
        return self._call("detokenize", {"ids": list(ids)}, lambda done: str(done["text"]))

    def apply_template(
        self, messages: Sequence[Mapping[str, str]], *, add_generation_prompt: bool = True
    ) -> str:
        """Lay a chat out as text, by the artifact's own template."""
        args = {"messages": list(messages), "add_generation_prompt": add_generation_prompt}
        return self._call("template", args, lambda done: str(done["text"]))

    def logits(self, ids: Sequence[int]) -> Generator[NDArray[np.float32], None, None]:
        """The logits after each id, in order, in blocks of rows (n, vocab) of no more than 16 MiB."""
        return self._stream("logits", {"ids": list(ids)}, _rows)

    def generate(self, request: Request) -> Generator[Piece, None, None]:
        """Continue, token by token; closing the iterator cancels."""
        return self._stream("generate", asdict(request), _pieces)

    def answer(self, request: Request) -> str:
        """Continue, and give the whole text."""
        return "".join(piece.text for piece in self.generate(request))

    def together(self, requests: Sequence[Request]) -> Generator[Tick, None, None]:
        """Continue several requests at once; says only when each token came."""
        return self._stream("together", {"requests": [asdict(one) for one in requests]}, _ticks)

    def cache_bytes(self) -> int:
        """What the last request has left in the KV cache."""
        return self._call("cache", {}, lambda done: int(done["bytes"]))

    def peaks(self) -> Peaks:
        """The most memory that the child has held so far; of a child that is gone, the most it ever held."""
        return self._process.peaks()

    def stderr_tail(self) -> tuple[str, ...]:
        """The last lines that the child wrote to stderr."""
        return self._process.tail()

    def close(self) -> None:
        """End the child and everything that it started."""
        self._is_closed = True
        self._process.end()

    def _call(
        self, name: str, args: Header, read: Callable[[Header], T], *, seconds: float | None = None
    ) -> T:
        """Ask, and read the one answer."""
        answer: list[T] = []
        for _ in self._stream(
            name, args, _no_part, done=lambda header: answer.append(read(header)), seconds=seconds
        ):
            pass
        return answer[0]

    def _stream(
        self,
        name: str,
        args: Header,
        read: Callable[[Header, bytearray], Sequence[T]],
        *,
        done: Callable[[Header], None] = lambda _: None,
        seconds: float | None = None,
    ) -> Generator[T, None, None]:
        """Ask, and read the parts as they come; only the time spent waiting for the child counts."""
        if self._fault is not None:
            raise WorkerFailure(self._fault)
        if self._is_closed:
            raise RuntimeError("this worker is closed")
        if self._is_busy:
            raise RuntimeError("a worker answers one request at a time: finish or close the stream before it")
        self._is_busy = True
        allowed = min(self.launch.limits.request_s if seconds is None else seconds, self._left_s)
        clock = Clock(allowed)
        try:
            with clock as deadline:
                self._channel.send({"call": name, "args": args}, deadline=deadline)
            while True:
                with clock as deadline:
                    header, payload = self._channel.receive(deadline=deadline)
                if header.get("part") is not True:
                    break
                parts = read(header, payload)
                try:
                    yield from parts
                except GeneratorExit:
                    self._cancel(clock)
                    raise
            done(self._done(header))
        except LateError:
            reason = f"it did not answer within {allowed:.3g} s"
            raise WorkerFailure(self._lost(FaultKind.HUNG, reason)) from None
        except GoneError:
            raise WorkerFailure(self._lost()) from None
        except (GarbledError, KeyError, TypeError, ValueError) as error:
            reason = f"what it sent makes no sense: {error}"
            raise WorkerFailure(self._lost(FaultKind.GARBLED, reason)) from None
        finally:
            self._left_s -= clock.spent_s
            self._is_busy = False

    def _cancel(self, clock: Clock) -> None:
        """Tell the child, and let pass what it had sent before it heard; the next call tells of a fault."""
        try:
            with clock as deadline:
                self._channel.send({"cancel": True}, deadline=deadline)
                while self._channel.receive(deadline=deadline)[0].get("part") is True:
                    pass
        except (LateError, GarbledError):
            self._lost(FaultKind.HUNG, "it did not stop when it was told to")
        except GoneError:
            self._lost()

    def _done(self, header: Header) -> Header:
        if isinstance(header.get("done"), dict):
            return dict(header["done"])
        kind, reason = FaultKind(header["fault"]), str(header["reason"])
        if kind in SURVIVABLE:
            raise WorkerFailure(Fault(kind, reason, self._process.tail()))
        raise WorkerFailure(self._lost(kind, reason))

    def _lost(self, kind: FaultKind | None = None, reason: str = "") -> Fault:
        """End the child, and settle why."""
        if kind is not None:
            self._process.kill(kind, reason)
        self._fault = self._process.post_mortem()
        return self._fault


class Clock:
    """Time spent waiting for the child, out of what is allowed."""

    def __init__(self, allowed_s: float) -> None:
        self._allowed_s = allowed_s
        self._since = 0.0
        self.spent_s = 0.0

    def __enter__(self) -> float:
        self._since = time.monotonic()
        return self._since + self._allowed_s - self.spent_s

    def __exit__(self, *_: object) -> None:
        self.spent_s += time.monotonic() - self._since


def _no_part(_: Header, __: bytearray) -> Sequence[None]:
    raise GarbledError("a stream where one answer was due")


def _rows(header: Header, payload: bytearray) -> Sequence[NDArray[np.float32]]:
    return (unpack(header, payload),)


def _pieces(header: Header, _: bytearray) -> Sequence[Piece]:
    return [
        Piece(one["token"], str(one["text"]), float(one["t_s"]), one["end"], one["tokens"])
        for one in header["items"]
    ]


def _ticks(header: Header, _: bytearray) -> Sequence[Tick]:
    return [Tick(int(one["index"]), float(one["t_s"]), int(one["count"])) for one in header["items"]]


def _opened(done: Header) -> tuple[Info, float, dict[str, str]]:
    if done["protocol"] != PROTOCOL:
        raise GarbledError("the child speaks another version of the protocol")
    given = done["info"]
    info = Info(**{**given, "can": tuple(given["can"]), "eog_ids": tuple(given["eog_ids"])})
    return (
        info,
        float(done["load_s"]),
        {str(name): str(version) for name, version in done["versions"].items()},
    )

"""The parent's side: a Python process that answers calls; whatever goes wrong there is a `Fault` here."""

import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Self, TypeVar

from convert.child.channel import Channel, GarbledError, GoneError, Header, LateError
from convert.child.fault import SURVIVABLE, ChildFailure, Fault, FaultKind, last_words
from convert.child.limits import Limits, environment
from convert.child.memory import Peaks
from convert.child.process import Process

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
# -I: nothing is imported from the environment, the working folder or the user's site.
START = (
    "import json, sys; sys.path.append(sys.argv[1]); "
    "from convert.child.server import main; main(**json.loads(sys.argv[2]))"
)


class Child:
    """An isolated Python process; a call that fails raises `ChildFailure`, and the parent carries on.

    After a refusal the child still answers; after anything else it is gone, and later calls give the reason.
    """

    def __init__(
        self,
        entry: str,  # module:function, for `convert.child.server`
        limits: Limits,
        *,
        folder: Path | None = None,  # where its scratch folder is made
        extra: Mapping[str, str] | None = None,  # environment variables
        secret_names: Sequence[str] = (),  # environment variables that are passed on besides
        has_network: bool = False,
    ) -> None:
        """Start it; the entry is imported there."""
        self._limits = limits
        self.fault: Fault | None = None  # why the child is gone, if it is
        self._is_busy = self._is_closed = False
        self._left_s = limits.total_s
        self.scratch = Path(tempfile.mkdtemp(prefix=".modelwright-", dir=folder))
        home = self.scratch / "home"
        home.mkdir()
        ours, theirs = socket.socketpair()
        settings = {
            "fd": theirs.fileno(),
            "parent": os.getpid(),
            "entry": entry,
            "scratch": str(self.scratch),
            "data_bytes": limits.watched_bytes + limits.headroom_bytes,
            "cpu_s": limits.cpu_s,
            "has_network": has_network,
        }
        command = [sys.executable, "-I", "-X", "utf8", "-c", START, str(ROOT), json.dumps(settings)]
        try:
            self._process = Process(
                command,
                limits,
                environment(home, secret_names) | dict(extra or {}),
                folder=home,
                pass_fds=(theirs.fileno(),),
            )
        except BaseException:
            ours.close()
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours, self._process.is_alive)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def peaks(self) -> Peaks:
        """Return the most memory that the child has held so far, or ever held if it is gone."""
        return self._process.watch.peaks()

    def stopped_s(self) -> float:
        """Return how long so far the child or this process was stopped, as on a laptop that sleeps."""
        return self._process.watch.stopped_s()

    def output_lines(self) -> tuple[str, ...]:
        """Return all that is kept of what the child printed."""
        return self._process.watch.lines()

    def stderr_tail(self) -> tuple[str, ...]:
        """Return the last lines that the child printed."""
        return last_words(self.output_lines())

    def close(self) -> None:
        """End the child and everything that it started."""
        self._is_closed = True
        self._process.end()
        self._channel.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def call(
        self, name: str, args: Header, read: Callable[[Header], T], *, seconds: float | None = None
    ) -> T:
        """Ask, and read the one answer."""
        answer: list[T] = []
        for _ in self.stream(
            name, args, _no_part, done=lambda header: answer.append(read(header)), seconds=seconds
        ):
            pass
        return answer[0]

    def stream(
        self,
        name: str,
        args: Header,
        read: Callable[[Header, bytearray], Sequence[T]],
        *,
        done: Callable[[Header], None] = lambda _: None,
        seconds: float | None = None,
    ) -> Generator[T, None, None]:
        """Ask, and read the parts as they come; closing the iterator cancels.

        Only the time spent waiting for the child counts.
        """
        if self.fault is not None:
            raise ChildFailure(self.fault)
        if self._is_closed:
            raise RuntimeError("this child is closed")
        if self._is_busy:
            raise RuntimeError("a child answers one request at a time: finish or close the stream before it")
        self._is_busy = True
        allowed = min(self._limits.request_s if seconds is None else seconds, self._left_s)
        before_s = self._channel.waited_s
        self._channel.until_s = before_s + allowed
        try:
            self._channel.send({"call": name, "args": args})
            while True:
                header, payload = self._channel.receive()
                if header.get("part") is not True:
                    break
                parts = read(header, payload)
                try:
                    yield from parts
                except GeneratorExit:
                    self._cancel()
                    raise
            done(self._done(header))
        except LateError:
            reason = f"it did not answer within {allowed:.3g} s"
            raise ChildFailure(self._lost(FaultKind.HUNG, reason)) from None
        except GoneError:
            raise ChildFailure(self._lost()) from None
        except (GarbledError, KeyError, TypeError, ValueError) as error:
            reason = f"what it sent makes no sense: {error}"
            raise ChildFailure(self._lost(FaultKind.GARBLED, reason)) from None
        finally:
            self._left_s -= self._channel.waited_s - before_s
            self._is_busy = False

    def _cancel(self) -> None:
        """Cancel the request, and skip what was sent before; a fault is left for the next call to raise."""
        try:
            self._channel.send({"cancel": True})
            while self._channel.receive()[0].get("part") is True:
                pass
        except (LateError, GarbledError):
            self._lost(FaultKind.HUNG, "it did not stop when it was asked to")
        except GoneError:
            self._lost()

    def _done(self, header: Header) -> Header:
        if isinstance(header.get("done"), dict):
            return dict(header["done"])
        kind, reason = FaultKind(header["fault"]), str(header["reason"])
        if kind in SURVIVABLE:
            raise ChildFailure(Fault(kind, reason, self.stderr_tail()), str(header.get("hint", "")))
        raise ChildFailure(self._lost(kind, reason))

    def _lost(self, kind: FaultKind | None = None, reason: str = "") -> Fault:
        """End the child, and settle why."""
        if kind is not None:
            self._process.kill(kind, reason)
        self.fault = self._process.post_mortem()
        return self.fault


def _no_part(_: Header, __: bytearray) -> Sequence[None]:
    raise GarbledError("a stream where one answer was due")

"""The child's side: confined first, it answers one call at a time until the parent is gone."""

import faulthandler
import importlib
import os
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from typing import Any

from convert.child.channel import Channel, GoneError, Header
from convert.child.fault import ChildFailure, FaultKind
from convert.child.limits import MARK, confine
from convert.child.process import hunt
from convert.errors import Failure
from convert.extras import missing

# One answer to a call by this name with these arguments, or parts that are sent as they come.
Answer = Callable[[str, Header], Header | Generator[tuple[Header, bytes | memoryview], None, None]]

ORPHAN_CHECK_S = 0.5
LONGEST_REASON = 500
# What torch's allocators say, on CPU and GPU.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")


def main(
    *,
    fd: int,
    parent: int,
    entry: str,
    scratch: str,
    data_bytes: float,
    cpu_s: int | None,
    has_network: bool,
) -> None:
    """Answer calls by an entry, `module:function`, which takes the channel and returns an `Answer`."""
    faulthandler.enable(all_threads=False)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # in order with stderr
    confine(data_bytes, cpu_s)
    threading.Thread(target=_die_with, args=(parent, scratch), daemon=True).start()
    if not has_network:
        sys.addaudithook(_stay_offline)
    channel = Channel(socket.socket(fileno=fd))
    module, _, function = entry.partition(":")
    answer: Answer = getattr(importlib.import_module(module), function)(channel)
    with suppress(GoneError, BrokenPipeError):  # the parent is gone, or what reads our stderr
        while True:
            header, _payload = channel.receive()
            if "cancel" not in header:  # of an answer that was complete before the parent changed its mind
                channel.send(_answer(channel, answer, header))
    _end(scratch)


def _die_with(parent: int, scratch: str) -> None:
    """End with a parent that was killed, which could not end us."""
    while os.getppid() == parent:
        time.sleep(ORPHAN_CHECK_S)
    _end(scratch)


def _end(scratch: str) -> None:
    """End at once, with all that this process started; native code may crash while it is torn down."""
    shutil.rmtree(scratch, ignore_errors=True)
    if mark := os.environ.get(MARK):
        hunt(mark, but=os.getpid())
    os.killpg(0, signal.SIGKILL)


def _stay_offline(event: str, args: tuple[Any, ...]) -> None:
    """Refuse every connection."""
    is_look_up = event in ("socket.getaddrinfo", "socket.gethostbyname")
    is_call = event in ("socket.connect", "socket.sendto", "socket.sendmsg")
    if is_look_up or (is_call and args[0].family != socket.AF_UNIX):
        raise OSError("this process has no network")


def _answer(channel: Channel, answer: Answer, header: Header) -> Header:
    try:
        made = answer(header["call"], header["args"])
        if isinstance(made, dict):
            return {"done": made}
        with closing(made):
            for part, payload in made:
                if channel.has_arrived():  # it cancels: nothing else comes while an answer is under way
                    channel.receive()
                    break
                channel.send({"part": True, **part}, payload)
    except GoneError:
        raise
    except Exception as error:  # noqa: BLE001  (whatever a package raises becomes one line for the user)
        return _fault(error)
    return {"done": {}}


def _fault(error: Exception) -> Header:
    if isinstance(error, ModuleNotFoundError):
        error = missing(error.name or "") or error
    if isinstance(error, Failure):
        kind = error.fault.kind if isinstance(error, ChildFailure) else FaultKind.REFUSED
        return {"fault": kind.value, "reason": error.message, "hint": error.hint}
    traceback.print_exception(error, limit=-4)
    if isinstance(error, MemoryError):
        kind, reason = FaultKind.OUT_OF_MEMORY, "it could not get the memory that it asked for"
    else:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST_REASON]
        kind = FaultKind.OUT_OF_MEMORY if is_out_of_memory(reason) else FaultKind.CRASHED
    return {"fault": kind.value, "reason": reason}


def is_out_of_memory(reason: str) -> bool:
    """Tell by what torch's allocators say."""
    return any(said in reason.lower() for said in OUT_OF_MEMORY)

"""A process with limits: watched, and ended with everything that it started."""

import os
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from convert.child.fault import Fault, FaultKind, last_words
from convert.child.limits import MARK, Limits
from convert.child.watch import Watch

GRACE_S = 0.5
GLANCE_S = 0.005
MOST_GLANCE_S = 0.1  # what takes longer is not waiting: this process was stopped, or slept
BY_SIGNAL = {
    signal.SIGSEGV: "it crashed: a wrong memory access (SIGSEGV)",
    signal.SIGBUS: "it crashed: a mapped file became shorter, or the disk is full or failed (SIGBUS)",
    signal.SIGABRT: "it stopped itself (SIGABRT), as native code does when something cannot be",
    signal.SIGILL: "it crashed: an instruction that this CPU does not have (SIGILL)",
    signal.SIGFPE: "it crashed: a wrong arithmetic operation (SIGFPE)",
    signal.SIGKILL: "it was killed from outside (SIGKILL), as the kernel does when memory runs out",
    signal.SIGXCPU: "it used more CPU time than it is allowed (SIGXCPU)",
}


class Process:
    """One process, its output and its memory; `end` may be called at any time, and again.

    It gets its own session, and its group is killed with it. An interactive one stays in ours, since it
    may ask the user at the terminal; what it leaves running is left alone, and its stderr is not read.
    """

    def __init__(
        self,
        command: Sequence[str],
        limits: Limits,
        environment: Mapping[str, str],
        *,
        stdin: bytes = b"",
        folder: Path | None = None,
        pass_fds: Sequence[int] = (),
        is_interactive: bool = False,
    ) -> None:
        self._verdict: Fault | None = None
        self._lock = threading.Lock()
        self._is_ended = False
        self._is_interactive = is_interactive
        self._mark = secrets.token_hex(16)
        ours, theirs = os.pipe()
        try:
            with tempfile.TemporaryFile() as given:
                given.write(stdin)
                given.seek(0)
                self._popen = subprocess.Popen(  # noqa: S603  (no shell; callers choose the program)
                    command,
                    stdin=given,
                    stdout=theirs,
                    stderr=subprocess.DEVNULL if is_interactive else theirs,
                    pass_fds=pass_fds,
                    env={**environment} if is_interactive else {**environment, MARK: self._mark},
                    cwd=folder,
                    start_new_session=not is_interactive,
                )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self.pid = self._popen.pid
        self.watch = Watch(self.pid, ours, limits, self.kill)

    def is_alive(self) -> bool:
        """Tell whether it still runs; it stays unreaped, so that no other process gets its number."""
        if self._is_ended:
            return False
        if not hasattr(os, "waitid"):  # macOS before Python 3.13
            return self._popen.poll() is None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # someone else has reaped it
            return False

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, and tell whether it has."""
        waited_s = 0.0
        while (is_alive := self.is_alive()) and waited_s < seconds:
            began_s = time.monotonic()
            time.sleep(GLANCE_S)
            waited_s += min(time.monotonic() - began_s, MOST_GLANCE_S)
        return not is_alive

    def kill(self, kind: FaultKind, reason: str) -> None:
        """Kill it for a reason; the first reason counts."""
        with self._lock:
            if self._verdict is None:
                self._verdict = Fault(kind, reason)
            if not self._is_ended:
                self._signal()

    def post_mortem(self) -> Fault:
        """End it, and say why it did not answer."""
        if not self.wait(GRACE_S):
            self.kill(FaultKind.EXITED, "it closed its side of the conversation and went on without it")
        self.end()
        verdict = self._verdict or self._cause_of_death()
        return replace(verdict, stderr_tail=last_words(self.watch.lines()))

    def end(self) -> None:
        """Kill it and everything that it started, reap it, and give everything back."""
        with self._lock:
            if self._is_ended:
                return
            self._signal()
            self._popen.wait()
            self._is_ended = True
        if not self._is_interactive:
            hunt(self._mark)
        self.watch.close()

    def _signal(self) -> None:
        # It is not reaped yet, so its number and its group's can't have become another's.
        with suppress(ProcessLookupError, PermissionError):
            (os.kill if self._is_interactive else os.killpg)(self.pid, signal.SIGKILL)

    def _cause_of_death(self) -> Fault:
        code = self._popen.returncode
        if code >= 0:
            return Fault(FaultKind.EXITED, f"it exited with code {code} and without an answer", code=code)
        name = signal.Signals(-code)
        reason = BY_SIGNAL.get(name, f"it was ended by {name.name}")
        return Fault(FaultKind.CRASHED, reason, code=code)


def hunt(mark: str, but: int = 0) -> None:
    """Kill those that left a child's group, all `but` one; their mark gives them away."""
    deadline = time.monotonic() + GRACE_S
    while (strays := set(marked(mark)) - {but}) and time.monotonic() < deadline:
        for pid in strays:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(GLANCE_S)


def marked(mark: str) -> tuple[int, ...]:
    """Find the living processes that carry a child's mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # another user's, or gone
            continue
    return tuple(found)


def run(
    command: Sequence[str], limits: Limits, environment: Mapping[str, str], stdin: bytes = b""
) -> tuple[bytes, Fault | None]:
    """Run a program that may ask the user; return its stdout, and what went wrong unless it exited with 0."""
    process = Process(command, limits, environment, stdin=stdin, is_interactive=True)
    try:
        if not process.wait(limits.total_s):
            process.kill(FaultKind.HUNG, f"it did not end within {limits.total_s:.3g} s")
        fault = process.post_mortem()
    finally:
        process.end()
    return process.watch.printed(), None if fault.code == 0 else fault

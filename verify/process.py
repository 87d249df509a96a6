"""A child in a session of its own: started clean, watched, and ended with everything that it started."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from convert.size import size
from verify.fault import Fault, FaultKind
from verify.limits import MARK, Limits, environment, memory_limit
from verify.memory import MemoryWatch, Peaks
from verify.output import Drain

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parent.parent
# -I: nothing of the environment, the working folder or the user's site is imported from.
START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from verify.child import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
GRACE_S = 0.5
BY_SIGNAL = {
    signal.SIGSEGV: "it crashed: a wrong memory access (SIGSEGV)",
    signal.SIGBUS: "it crashed: a mapped file is shorter than it says, or the disk failed (SIGBUS)",
    signal.SIGABRT: "it stopped itself (SIGABRT), as native code does when something cannot be",
    signal.SIGILL: "it crashed: an instruction that this CPU does not have (SIGILL)",
    signal.SIGFPE: "it crashed: a wrong arithmetic operation (SIGFPE)",
    signal.SIGKILL: "it was killed from outside (SIGKILL), as the kernel does when memory runs out",
}


class Process:
    """One child, its socket, its output and its memory; `end` may be called at any time, and again."""

    def __init__(self, limits: Limits, secret_names: Sequence[str] = ()) -> None:
        self._verdict: Fault | None = None
        self._lock = threading.Lock()
        self._is_ended = False
        self._limits = limits
        self._mark = secrets.token_hex(16)
        self._memory_limit = memory_limit(limits)
        self.scratch = Path(tempfile.mkdtemp(prefix="modelwright-verify-"))
        self.socket, theirs = socket.socketpair()
        out, err = os.pipe(), os.pipe()
        command = [sys.executable, "-I", "-c", START]
        command += [str(ROOT), str(theirs.fileno()), str(self._memory_limit)]
        try:
            self._popen = subprocess.Popen(  # noqa: S603  (our own interpreter, our own module)
                command,
                stdin=subprocess.DEVNULL,
                stdout=out[1],
                stderr=err[1],
                pass_fds=(theirs.fileno(),),
                env=environment(self.scratch, self._mark, secret_names),
                cwd=self.scratch,
                start_new_session=True,
            )
        except BaseException:
            self.socket.close()
            os.close(out[0])
            os.close(err[0])
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise
        finally:
            theirs.close()
            os.close(out[1])
            os.close(err[1])
        self.pid = self._popen.pid
        self._drain = Drain(out[0], err[0], limits.output_bytes, self._flooded)
        self._watch = MemoryWatch(self.pid, self._memory_limit, self._too_big)

    def is_alive(self) -> bool:
        """Has the child not exited yet? It is left unreaped, so that its number stays its own."""
        if self._is_ended:
            return False
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:  # someone else has reaped it
            return False

    def peaks(self) -> Peaks:
        """The most memory so far."""
        return self._watch.peaks()

    def kill(self, kind: FaultKind, reason: str) -> None:
        """End the child for a reason; the first reason stands."""
        with self._lock:
            if self._verdict is None:
                self._verdict = Fault(kind, reason)
            if not self._is_ended:
                self._signal_group()

    def tail(self) -> tuple[str, ...]:
        """The last lines on stderr so far."""
        return self._drain.tail()

    def post_mortem(self) -> Fault:
        """Why a child that no longer answers does not; ends it."""
        deadline = time.monotonic() + GRACE_S
        while self.is_alive() and time.monotonic() < deadline:
            time.sleep(0.005)
        if self.is_alive():
            self.kill(FaultKind.EXITED, "it closed its side of the conversation and went on without it")
        self.end()
        verdict = self._verdict or self._cause_of_death()
        return Fault(verdict.kind, verdict.reason, self.tail())

    def end(self) -> None:
        """Kill the whole group and whoever left it, reap, and give everything back."""
        with self._lock:
            if self._is_ended:
                return
            self._signal_group()
            self._popen.wait()
            self._is_ended = True
        self._hunt()
        self._watch.close()
        self._drain.settle(GRACE_S)
        self._drain.close()
        self.socket.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _hunt(self) -> None:
        """Kill what left the group; by its mark it is still known."""
        deadline = time.monotonic() + GRACE_S
        while (strays := marked(self._mark)) and time.monotonic() < deadline:
            for pid in strays:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.005)

    def _signal_group(self) -> None:
        # The leader is not reaped yet, so the group's number can't have become another's.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _cause_of_death(self) -> Fault:
        code = self._popen.returncode
        if code >= 0:
            return Fault(FaultKind.EXITED, f"it exited with code {code} and without an answer")
        name = signal.Signals(-code)
        return Fault(FaultKind.CRASHED, BY_SIGNAL.get(name, f"it was ended by {name.name}"))

    def _too_big(self, anon_bytes: int) -> None:
        reason = f"it took {size(anon_bytes)} of memory, and {size(self._memory_limit)} are allowed"
        self.kill(FaultKind.OUT_OF_MEMORY, reason)

    def _flooded(self, total_bytes: int) -> None:
        reason = f"it printed {size(total_bytes)}, and {size(self._limits.output_bytes)} are allowed"
        self.kill(FaultKind.FLOODED, reason)


def marked(mark: str) -> tuple[int, ...]:
    """The living processes that carry a worker's mark in their environment."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if wanted in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
        except OSError:  # another user's, or gone
            continue
    return tuple(found)

"""One command line, run again and again, each time in a fork that a fault may meet at any system call.

As a script it has imported all that the command needs before it forks, so that a run makes only the calls
of the work itself, and takes as long as the work.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from convert.version import changed_code, code_digest, version
from tests.publish.publishing import fork, say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit status, below 0 for a signal, and what it wrote to stdout and stderr."""

    status: int
    said: str
    trace: str = ""  # strace's


class Forked:
    """The script of this file, from the side of the test."""

    def __init__(self, process: subprocess.Popen[str], said: Path) -> None:
        self.said = said
        self._in, self._out = cast("IO[str]", process.stdin), cast("IO[str]", process.stdout)

    def run(self, *traced: str, meanwhile: Callable[[int], None] | None = None) -> Ended:
        """Run the command once, under strace with these options if there are any."""
        self.said.write_bytes(b"")
        self._tell("fork")
        pid = int(self._out.readline())
        log = self.said.with_suffix(".trace")
        log.write_bytes(b"")
        tracing = None
        if traced:
            command = ["strace", "-f", "-qq", "-y", "-o", str(log), *traced, "-p", str(pid)]
            tracing = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while "TracerPid:\t0" in Path(f"/proc/{pid}/status").read_text("ascii"):
                assert tracing.poll() is None, "strace may not trace"
                time.sleep(0.002)
        self._tell("go")
        if meanwhile:
            meanwhile(pid)
        status = int(self._out.readline())
        if tracing:
            tracing.wait()
        trace = log.read_text("utf-8", errors="replace")
        return Ended(status, self.said.read_text("utf-8", errors="replace"), trace)

    def _tell(self, word: str) -> None:
        self._in.write(f"{word}\n")
        self._in.flush()


@contextmanager
def forked(folder: Path, *words: str, act: str = "convert.cli.app:run") -> Iterator[Forked]:
    """Start the script in a folder; `act` takes the words and returns an exit code."""
    said = folder / "said"
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.forking", act, str(said), *words], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            made = Forked(process, said)
            made.run()  # which the script learns from what to import
            yield made
        finally:
            process.kill()


def main(act: str, said: str, words: list[str]) -> None:
    """Run the command in a fork each time that a line asks for it."""
    module, _, name = act.partition(":")
    run = getattr(importlib.import_module(module), name)
    known = Path(said).with_suffix(".modules")
    for ask in (version, code_digest, changed_code):  # git, once and here: it is not what is swept
        ask()

    def once() -> int:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
        try:
            return int(run(words))
        finally:
            with suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            if not known.exists():
                known.write_text("\n".join(sorted(sys.modules)))

    while sys.stdin.readline():
        is_first = not known.exists()
        with Path(said).open("ab", 0) as file:  # here, so that no fault meets it
            child, start = fork(once)
        say(str(child))
        sys.stdin.readline()
        os.write(start, b"!")
        os.close(start)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for name in known.read_text().split() if is_first and known.exists() else ():
            with suppress(Exception):
                importlib.import_module(name)
        say(str(status))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])

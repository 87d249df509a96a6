"""The quantiser's process: started with little, heard by lines of JSON, ended with all that it started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.quantizer.job import LOG, SCRATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
# -I: nothing of the environment, the working folder or the user's site is imported from; -B: nor written to.
START = (
    "import sys; sys.path.append(sys.argv[1]); "
    "from convert.quantizer.child import main; main(int(sys.argv[2]), sys.argv[3], sys.argv[4])"
)
# An allow-list: whatever a token is called on the next machine, it is not here.
ALLOWED = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_VISIBLE_DEVICES"),
        *("NVIDIA_VISIBLE_DEVICES", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY"),
    }
)
# GPTQModel splits its CPU workers between pools, and refuses to start with a single one: what it takes by
# itself where there are two cores.
MIN_WORKERS = 2
TAIL_BYTES = 64 << 10
LONGEST_REASON = 400
# With less free on its disk, it is told that the disk is full, whatever the child made of it: GPTQModel may
# end without a word where its log cannot be written either.
LEAST_FREE_BYTES = 1 << 20
HINT_DISK = "free some space, or choose another folder with --out"
HINT_MEMORY = "ask for fewer or shorter calibration samples, or take a machine with more memory"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory")
BY_SIGNAL = {
    signal.SIGKILL: "it was killed from outside (SIGKILL), as the kernel does when memory runs out",
    signal.SIGSEGV: "it crashed: a wrong memory access (SIGSEGV)",
    signal.SIGBUS: "it crashed: a mapped file became shorter, or the disk is full or failed (SIGBUS)",
    signal.SIGABRT: "it stopped itself (SIGABRT), as native code does when something cannot be",
    signal.SIGILL: "it crashed: an instruction that this CPU does not have (SIGILL)",
}


def listen(work: Path, engine: str, label: str, told: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Run an engine on the job in `work`, pass on what it tells, and give what it ends with."""
    with _started(work, engine) as (child, lines):
        answer: dict[str, Any] | None = None
        for line in lines:
            message = _read(line, label)
            if "end" in message:
                answer = message
            else:
                told(message)
        code = child.wait()
    if answer is not None and answer["end"] == "done":
        return dict(answer["result"])
    raise _failure(label, answer, code, work / LOG)


@contextmanager
def _started(work: Path, engine: str) -> Iterator[tuple[subprocess.Popen[bytes], Iterator[bytes]]]:
    """Start the child in a session of its own; when the block ends, however it ends, so does the session."""
    (work / SCRATCH).mkdir()
    ours, theirs = os.pipe()
    command = [sys.executable, "-I", "-B", "-c", START, str(ROOT), str(theirs), engine, str(work)]
    try:
        with (work / LOG).open("wb") as log:
            child = subprocess.Popen(  # noqa: S603  (our own interpreter, our own module)
                command,
                # Held open for as long as this process lives: its end tells the child to go.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(theirs,),
                env=environment(work / SCRATCH),
                cwd=work / SCRATCH,
                start_new_session=True,
            )
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    try:
        with os.fdopen(ours, "rb") as lines:
            yield child, lines
    finally:
        if child.returncode is None:
            # Not reaped yet, so the group's number cannot have become another's.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.stdin is not None:
            child.stdin.close()


def environment(scratch: Path) -> dict[str, str]:
    """The child's environment: offline, at home in its scratch folder, without any secret."""
    kept = {name: value for name, value in os.environ.items() if name in ALLOWED or name.startswith("LC_")}
    cores = os.cpu_count() or 1
    # Each of GPTQModel's workers has a team of threads of its own: one that spins takes the core of another.
    return (
        {"OMP_WAIT_POLICY": "PASSIVE"}
        | kept
        | {
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
            "XDG_CACHE_HOME": str(scratch),
            "HF_HOME": str(scratch / "hf"),
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # without it cuBLAS promises no equal results
            "PYTHONUTF8": "1",
            **({"GPTQMODEL_CPU_WORKERS": str(MIN_WORKERS)} if cores <= MIN_WORKERS else {}),
        }
    )


def _read(line: bytes, label: str) -> dict[str, Any]:
    with suppress(ValueError):
        message = json.loads(line)
        if isinstance(message, dict):
            return message
    raise Failure(f"{label}: the quantiser sent what is no message: {line[:80]!r}", "run it again")


def _failure(label: str, answer: dict[str, Any] | None, code: int, log: Path) -> Failure:
    if shutil.disk_usage(log.parent).free < LEAST_FREE_BYTES:
        return Failure(f"{label}: the disk is full", HINT_DISK)
    if answer is not None:
        kind, reason = str(answer["end"]), str(answer["reason"])[:LONGEST_REASON]
        hints = {"memory": HINT_MEMORY, "refused": str(answer.get("hint", ""))}
        return Failure(f"{label}: {reason}", hints.get(kind) or _last_words(log))
    if code < 0:
        name = signal.Signals(-code)
        reason = BY_SIGNAL.get(name, f"it was ended by {name.name}")
        return Failure(f"{label}: {reason}", HINT_MEMORY if name == signal.SIGKILL else _last_words(log))
    # GPTQModel ends its process where one of its threads fails, and the exception is in the log alone.
    said = _last_words(log) or f"no answer, and code {code}"
    return Failure(f"{label}: GPTQModel gave up: {said}", HINT_MEMORY if is_out_of_memory(said) else "")


def _last_words(log: Path) -> str:
    """The last line that is one: progress bars are drawn over themselves and say nothing."""
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = stream.read().decode("utf-8", "replace")
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines()]
    said = [line for line in lines if any(map(str.isalpha, line)) and "| 0:" not in line]
    return said[-1][:LONGEST_REASON] if said else ""


def is_out_of_memory(reason: str) -> bool:
    """Tell by what torch's allocators say, on CPU and GPU."""
    return any(said in reason.lower() for said in OUT_OF_MEMORY)

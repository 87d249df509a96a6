"""What a child may take: time, memory, output, and of the parent's environment only what is named here."""

from __future__ import annotations

import os
import resource
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# An allow-list: whatever a token is called on the next machine, it is not here.
ALLOWED = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
        *("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_HOME", "CUDA_VISIBLE_DEVICES"),
        *("NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR"),
    }
)
GIB = 1 << 30
# RLIMIT_DATA counts what is reserved and never touched too (thread stacks, arenas), so it stands well above
# the limit that is watched from outside; it is there for what grows faster than the watch looks.
BACKSTOP_BYTES = 4 * GIB


@dataclass(frozen=True)
class Limits:
    """The most that a child may take before it is killed."""

    open_s: float = 600.0
    request_s: float = 600.0  # each; for a stream, from its first byte to its last
    total_s: float = 4 * 3600.0
    memory_bytes: int | None = (
        None  # anonymous and shared; mapped files are the kernel's to drop. None: see below
    )
    output_bytes: int = 64 << 20  # on stdout and stderr together


def memory_limit(limits: Limits) -> int:
    """The limit as given, or nine tenths of what the machine has to spare."""
    if limits.memory_bytes is not None:
        return limits.memory_bytes
    return available_memory() * 9 // 10


def available_memory() -> int:
    """What the machine can still give, or the container if that is less."""
    spare = [_meminfo("MemAvailable")]
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text("ascii"))
        used = int(Path("/sys/fs/cgroup/memory.current").read_text("ascii"))
        reclaimable = 0
        for line in Path("/sys/fs/cgroup/memory.stat").read_text("ascii").splitlines():
            if line.startswith("inactive_file "):
                reclaimable = int(line.split()[1])
        spare.append(limit - used + reclaimable)
    return max(0, min(spare))


def _meminfo(key: str) -> int:
    for line in Path("/proc/meminfo").read_text("ascii").splitlines():
        name, _, value = line.partition(":")
        if name == key:
            return int(value.split()[0]) << 10
    raise ValueError(key)


def environment(
    scratch: Path, mark: str, extra: Sequence[str] = (), own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The child's environment: offline, at home in its scratch folder, of secrets only `extra`."""
    source = os.environ if own is None else own
    kept = {name: value for name, value in source.items() if name in ALLOWED or name.startswith("LC_")}
    kept |= {name: source[name] for name in extra if name in source}
    return kept | {
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
        "HF_HOME": str(scratch / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GGML_NO_BACKTRACE": "1",  # a debugger's page of frames would push the message out of the tail
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUTF8": "1",
        MARK: mark,
    }


# Carried by every descendant, so that one that left the process group is still found.
MARK = "MODELWRIGHT_WORKER"


def confine(memory_bytes: int) -> None:
    """In the child, before any native code: no core files, a backstop on memory, first to go."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = memory_bytes + BACKSTOP_BYTES
    if hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")

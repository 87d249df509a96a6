"""The most that a child may take: time, memory, output, and which environment variables."""

import math
import os
import resource
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from convert.child.memory import available_memory

# An allow-list: it keeps tokens out, whatever they are called on the next machine.
ALLOWED = frozenset(
    {
        *("PATH", "LANG", "LANGUAGE", "TZ", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
        *("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"),
        *("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_HOME", "CUDA_VISIBLE_DEVICES"),
        *("NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR"),
    }
)
# Every descendant inherits it, so that one that left the process group is still found.
MARK = "MODELWRIGHT_CHILD"


@dataclass(frozen=True)
class Limits:
    """The most that a child may take before it is killed."""

    open_s: float = 600.0
    request_s: float = 600.0  # each; for a stream, from its first byte to its last
    total_s: float = 4 * 3600.0  # of waiting for it
    cpu_s: int | None = None  # over all of its threads and its whole life
    # Anonymous and shared; mapped files are the kernel's to drop. None: nine tenths of what is available.
    memory_bytes: float | None = None
    # RLIMIT_DATA is so much more, since it counts what is reserved and never touched too (thread stacks,
    # arenas). It stops what grows faster than the watch from outside looks.
    headroom_bytes: int = 4 << 30
    output_bytes: int = 64 << 20  # on stdout and stderr together

    @property
    def watched_bytes(self) -> float:
        """Return the memory limit in figures."""
        return available_memory() * 9 // 10 if self.memory_bytes is None else self.memory_bytes


def environment(
    home: Path, secret_names: Sequence[str] = (), own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return a child's environment: offline, at home in its own folder, without secrets but those named."""
    source = os.environ if own is None else own
    kept = {name: value for name, value in source.items() if name in ALLOWED or name.startswith("LC_")}
    kept |= {name: source[name] for name in secret_names if name in source}
    return kept | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home),
        "HF_HOME": str(home / "hf"),
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GGML_NO_BACKTRACE": "1",  # a debugger's page of stack frames would push out the message
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUTF8": "1",
    }


def confine(data_bytes: float, cpu_s: int | None) -> None:
    """Limit this process, the child, before any native code runs."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    most = data_bytes if hard == resource.RLIM_INFINITY else min(data_bytes, hard)
    if most < math.inf:
        resource.setrlimit(resource.RLIMIT_DATA, (int(most), int(most)))
    if cpu_s is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    with suppress(OSError):  # first to go when the machine's memory runs out
        Path("/proc/self/oom_score_adj").write_text("1000", "ascii")

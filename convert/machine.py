"""The memory and GPU of this machine, as far as a plan needs them."""

import ctypes
import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from convert.errors import Failure
from convert.size import size


def memory_bytes() -> int:
    """Return the size of the memory: the machine's, or the container's if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return total


def require_memory(what: str, needed_bytes: int) -> None:
    """Refuse what needs more memory than this machine has."""
    here_bytes = memory_bytes()
    if needed_bytes > here_bytes:
        raise Failure(
            f"{what}: about {size(needed_bytes)} of memory needed, and this machine has {size(here_bytes)}",
            "ask for fewer or shorter samples under calibration, take a larger machine, "
            "or leave this target out with --only",
        )


def has_gpu() -> bool:
    """Say whether torch will find an NVIDIA GPU, without importing it."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return False
    return not torch.endswith("+cpu") and shows_gpu()


def shows_gpu() -> bool:
    """Say whether there is an NVIDIA GPU that this process may see, whatever could use it."""
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not is_hidden and Path("/dev/nvidiactl").exists()


def give_back_memory() -> None:
    """Return freed memory to the system, where the C library has a call for that."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)

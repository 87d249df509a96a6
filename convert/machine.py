"""What this machine has, as far as a plan must know it."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def memory_bytes() -> int:
    """How much memory there is at all: the machine's, or the container's if that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):  # no cgroup v2, or "max"
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text("ascii")))
    return total


def has_gpu() -> bool:
    """Whether torch will find a GPU of NVIDIA's, told without importing it."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        return False
    is_hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    return not torch.endswith("+cpu") and not is_hidden and Path("/dev/nvidiactl").exists()

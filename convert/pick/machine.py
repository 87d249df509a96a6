"""Machines to choose for, as the estimates see them, and the parts that a person names besides a profile."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from convert.errors import UsageFailure
from convert.size import size

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GIB|G|MB|M)?", re.IGNORECASE)
_UNITS = {"GB": 1e9, "G": 1e9, "GIB": float(1 << 30), "MB": 1e6, "M": 1e6}


@dataclass(frozen=True)
class Gpu:
    """One GPU; bandwidth in bytes and arithmetic in operations a second."""

    title: str
    memory_bytes: float
    bandwidth: float
    flops: float
    types: tuple[str, ...]  # of numbers that it multiplies: fp16, bf16, int8, fp8


@dataclass(frozen=True)
class Machine:
    """A machine: its figures are a profile's, a person's, or measured."""

    name: str
    title: str
    kind: str  # computer, apple, gpu, server, phone or browser
    os: str
    runtimes: tuple[str, ...]  # for it, the best first
    ram_bytes: float
    reserved_bytes: float  # what the system and other programs hold
    bandwidth: float
    flops: float
    cores: int
    instructions: tuple[str, ...] = ()
    gpus: int = 0
    gpu: Gpu | None = None
    is_measured: bool = False

    @property
    def room_bytes(self) -> float:
        """Return how much memory is left for a model."""
        return self.ram_bytes - self.reserved_bytes

    def __str__(self) -> str:
        """Say what it is in a few words."""
        if self.gpu and self.gpus:
            return f"{self.gpus} × {self.gpu.title}, {size(self.gpu.memory_bytes)} each"
        gpu = "a shared GPU" if self.kind in ("apple", "browser") else "no GPU"
        return f"{size(self.ram_bytes)}, {gpu}"


def read_size(text: str, option: str) -> float:
    """Read 8GB, 8GiB, 500MB, or a number of GB."""
    found = _SIZE.fullmatch(text.strip())
    if found is None or float(found[1]) <= 0:
        raise UsageFailure(f"{option} {text}: is no size", "write e.g. 8GB")
    return float(found[1]) * _UNITS[(found[2] or "GB").upper()]


# Of a GPU that a person describes by its memory alone: what cards of that size have had since 2020.
PLAIN_GPU = Gpu("GPU", 0.0, bandwidth=450e9, flops=60e12, types=("fp16", "bf16", "int8"))


def overridden(machine: Machine, parts: Mapping[str, str | int | None]) -> Machine:
    """Replace the parts that a person names."""
    if (ram := parts.get("ram")) is not None:
        ram_bytes = read_size(str(ram), "--ram")
        reserved_bytes = min(machine.reserved_bytes, ram_bytes / 2)
        machine = replace(machine, ram_bytes=ram_bytes, reserved_bytes=reserved_bytes)
    if (cores := parts.get("cores")) is not None:
        flops = machine.flops * int(cores) / machine.cores
        machine = replace(machine, cores=int(cores), flops=flops)
    if (vram := parts.get("vram")) is not None:
        gpu = replace(machine.gpu or PLAIN_GPU, memory_bytes=read_size(str(vram), "--vram"))
        machine = replace(machine, gpu=gpu, gpus=machine.gpus or 1)
    if (gpus := parts.get("gpus")) is not None:
        if int(gpus) and machine.gpu is None:
            raise UsageFailure(f"--gpus {gpus}: nobody says how much memory they have", "add --vram 24GB")
        machine = replace(machine, gpus=int(gpus))
    if machine.gpus and machine.kind == "computer":
        machine = replace(machine, kind="gpu", runtimes=("vllm", *machine.runtimes))
    if (system := parts.get("os")) is not None:
        machine = replace(machine, os=str(system))
    if (runtime := parts.get("runtime")) is not None:
        machine = replace(machine, runtimes=(str(runtime),))
    return machine

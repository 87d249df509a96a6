"""Profiles: machines and GPUs as data files describe them, and this machine."""

import platform
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal

from pydantic import Field

from convert.machine import memory_bytes
from convert.pick import data
from convert.pick.data import Figure
from convert.pick.machine import PLAIN_GPU, Gpu, Machine
from convert.recipe.strict import Strict
from verify.machine import Accelerator, describe_machine

# What a core makes of products of matrices, in operations a second, by the widest instructions that it has;
# rough figures of ours, about half of what clock and width allow.
CORE_FLOPS = {"avx512f": 90e9, "avx2": 45e9, "asimd": 40e9, "": 12e9}
# What the system and other programs hold, where nobody says.
RESERVED_BYTES = 2.5e9
# A copy of this much is beyond any cache, and takes a moment.
COPIED_BYTES, COPIES, MOST_THREADS = 256 << 20, 4, 8


class GpuFile(Strict):
    """A GPU as a file describes it."""

    title: str = Field(description="The GPU's name.", examples=["RTX 4090"])
    names: tuple[str, ...] = Field(default=(), description="Parts of the names that drivers have for it.")
    memory_gb: Figure
    bandwidth_gb_s: Figure
    tflops: Figure = Field(description="In 16 bits, dense.")
    types: tuple[str, ...] = Field(description="Numbers that it multiplies.", examples=[["fp16", "fp8"]])

    def gpu(self) -> Gpu:
        """Turn the file into what the estimates ask for."""
        return Gpu(
            self.title,
            self.memory_gb.value * 1e9,
            self.bandwidth_gb_s.value * 1e9,
            self.tflops.value * 1e12,
            self.types,
        )


class Profile(Strict):
    """A machine as a file describes it."""

    title: str = Field(description="What it is, in a few words.", examples=["a laptop with 8 GB"])
    kind: Literal["computer", "apple", "gpu", "server", "phone", "browser"]
    os: Literal["linux", "macos", "windows", "android", "ios"]
    runtimes: tuple[str, ...] = Field(min_length=1, description="The runtimes for it, the best first.")
    ram_gb: Figure
    reserved_gb: Figure = Field(description="What the system and other programs hold.")
    bandwidth_gb_s: Figure = Field(description="Of its memory.")
    gflops: Figure = Field(description="Of its cores, or of a GPU that shares the memory.")
    cores: int = Field(ge=1)
    instructions: tuple[str, ...] = ()
    gpus: int = Field(default=0, ge=0)
    gpu: str = Field(default="", description="The name of a GPU's file.", examples=["rtx-4090"])

    def machine(self, name: str) -> Machine:
        """Turn the file into what the estimates ask for."""
        return Machine(
            name=name,
            title=self.title,
            kind=self.kind,
            os=self.os,
            runtimes=self.runtimes,
            ram_bytes=self.ram_gb.value * 1e9,
            reserved_bytes=self.reserved_gb.value * 1e9,
            bandwidth=self.bandwidth_gb_s.value * 1e9,
            flops=self.gflops.value * 1e9,
            cores=self.cores,
            instructions=self.instructions,
            gpus=self.gpus,
            gpu=data.load("gpus", "GPU", GpuFile, self.gpu).gpu() if self.gpu else None,
        )


def find_machine(name: str) -> Machine:
    """Find a machine by a profile's name or path; `here` is this one."""
    return here() if name == "here" else data.load("profiles", "machine", Profile, name).machine(name)


@cache
def shipped_machine(name: str) -> Machine:
    """Read a shipped profile, for what travels: a person's own of that name is no part of it."""
    return data.read(data.SHIPPED / "profiles" / f"{name}.yaml", "machine", Profile).machine(name)


def here() -> Machine:
    """Look at this machine: cores, instructions, memory, what the memory delivers, and GPUs."""
    found = describe_machine()
    is_apple = platform.system() == "Darwin" and platform.machine() == "arm64"
    gpus = [each for each in found.accelerators if each.memory_bytes]
    best = next(name for name in CORE_FLOPS if name in found.instructions or not name)
    first = ("vllm",) if gpus else ("mlx",) if is_apple else ()
    return Machine(
        name="here",
        title=found.cpu,
        kind="gpu" if gpus else "apple" if is_apple else "computer",
        os={"Darwin": "macos", "Windows": "windows"}.get(platform.system(), "linux"),
        runtimes=(*first, "ollama", "llama.cpp", "llamafile", "onnxruntime-genai"),
        ram_bytes=float(memory_bytes()),
        reserved_bytes=min(RESERVED_BYTES, memory_bytes() / 4),
        bandwidth=measure_bandwidth(found.cores),
        flops=CORE_FLOPS[best] * found.cores,
        cores=found.cores,
        instructions=found.instructions,
        gpus=len(gpus),
        gpu=_known(gpus[0]) if gpus else None,
        is_measured=True,
    )


def _known(found: Accelerator) -> Gpu:
    """Find a GPU's figures by the driver's name for it; its memory is what the driver says."""
    own = {"title": found.name, "memory_bytes": float(found.memory_bytes or 0)}
    for path in data.named("gpus").values():
        file = data.read(path, "GPU", GpuFile)
        if any(name.lower() in found.name.lower() for name in file.names):
            return Gpu(**{**vars(file.gpu()), **own})
    return Gpu(**{**vars(PLAIN_GPU), **own})


def measure_bandwidth(cores: int) -> float:
    """Copy memory on all cores for a moment, and return the bytes that were read and written in a second."""
    import numpy as np  # noqa: PLC0415 - not for a profile

    threads = max(1, min(cores, MOST_THREADS))
    source = [np.ones(COPIED_BYTES // threads // 8) for _ in range(threads)]
    target = [np.zeros_like(each) for each in source]
    best_s = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(COPIES):
            began = time.perf_counter()
            list(pool.map(np.copyto, target, source))  # which lets other threads run
            best_s = min(best_s, time.perf_counter() - began)
    return 2 * COPIED_BYTES / best_s

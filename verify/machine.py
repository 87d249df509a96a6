"""The machine of a measurement: enough to compare figures, and nothing that names its owner."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from convert.version import version

# Instructions that the kernels of the runtimes use.
INSTRUCTIONS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16"),
    *("avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)
PACKAGES = (
    *("llama-cpp-python", "torch", "transformers", "tokenizers", "safetensors", "numpy"),
    *("onnxruntime", "onnxruntime-genai", "GPTQModel"),
)


@dataclass(frozen=True)
class Accelerator:
    """A device other than the CPU."""

    name: str
    memory_bytes: int | None
    driver: str


@dataclass(frozen=True)
class Machine:
    """The machine that a measurement ran on."""

    cpu: str
    cores: int  # those that this process may use
    cores_online: int
    instructions: tuple[str, ...]
    memory_bytes: int
    accelerators: tuple[Accelerator, ...]
    system: str
    python: str
    versions: dict[str, str]
    load_average: float  # over the last minute: what else was running


def describe_machine() -> Machine:
    """Describe this machine without importing a runtime."""
    info = _cpu_info()
    return Machine(
        cpu=info.get("model name") or info.get("Hardware") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        cores_online=os.cpu_count() or 1,
        instructions=_instructions(info),
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        accelerators=_nvidia(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        versions=_versions(),
        load_average=round(os.getloadavg()[0], 2),
    )


def _cpu_info() -> dict[str, str]:
    """Read the lines of the first processor."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.partition("\n\n")[0].splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _instructions(info: dict[str, str]) -> tuple[str, ...]:
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return tuple(name for name in INSTRUCTIONS if name in flags)


def _nvidia() -> tuple[Accelerator, ...]:
    """Ask the driver's own tool; a machine without it has no such device."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    try:
        path = {"PATH": os.environ.get("PATH", os.defpath)}  # and no token
        said = subprocess.run(query, env=path, capture_output=True, text=True, timeout=20, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ()
    return read_nvidia(said.stdout)


def read_nvidia(text: str) -> tuple[Accelerator, ...]:
    """Parse the tool's lines, each a device: name, MiB, driver."""
    rows = [[cell.strip() for cell in line.split(",")] for line in text.splitlines()]
    return tuple(
        Accelerator(name, int(mib) << 20 if mib.isdigit() else None, driver)
        for name, mib, driver in (row for row in rows if len(row) == 3)
    )


def _versions() -> dict[str, str]:
    found = {"modelwright": version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found

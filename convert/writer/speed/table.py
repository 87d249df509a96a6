"""The table of a machine's speeds, filled as plans ask for them."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from convert.writer.codecs import lanes
from convert.writer.codecs.lanes.load import is_compiled, load
from convert.writer.speed import probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from convert.writer.codecs import Codec

# The packages with kernels in them: another version may be faster.
PACKAGES = ("numpy", "llama-cpp-python", "numba")
# Work that takes less at these rates, which any machine reaches, is not worth a measurement.
WORTH_S = 0.1
WIDENED_PER_S = 300e6  # weights
PROBED_FROM_BYTES = 8 * probe.FILE_BYTES
KERNEL_GAIN = 5.0  # of a kernel that is yet to be compiled
TERMS_PER_S, OPERATIONS_PER_S = 1e9, 20e9
HASHED_BYTES_PER_S = 500e6


class Disk(NamedTuple):
    """The bytes a second that a core copies into a file, and that the disk then takes."""

    copied_per_s: float = 1e9
    taken_per_s: float = 500e6


class Speeds:
    """The seconds that one core of this machine takes for work while the others do the same.

    What a core does in a second is a table in the user's cache folder, one for each kind of CPU and set of
    versions. What it lacks is measured when there is enough of that work.
    """

    def __init__(self, folder: Path, cores: int) -> None:
        self._path = folder / "speeds" / f"{_machine()}.json"
        self._cores = cores
        self._known: dict[str, float] = {}
        with suppress(OSError, ValueError, AttributeError, TypeError):  # missing or damaged
            known = json.loads(self._path.read_text("utf-8"))
            self._known = {name: float(value) for name, value in known.items()}

    def encoding_s(self, codec: Codec, weights: float) -> float:
        """Estimate the encoding of weights, by the kernel that a conversion would use."""
        # Which importance the columns have makes no difference; whether they have one does.
        name = f"{codec.name}{_by_importance(codec)}"
        return self._seconds(name, weights, lanes.weights_per_s(codec), lambda: probe.encoding(codec))

    def kernel_s(self, codec: Codec, weights: float, folder: Path) -> float:
        """Estimate the encoding by a vectorized kernel that was compiled into a folder, or will be."""
        kernel = lanes.kernel_of(codec)
        name = f"{codec.name} by {folder.name}{_by_importance(codec)}"
        is_ready = kernel in lanes.ready or is_compiled(kernel, folder)
        if name not in self._known and not is_ready:
            return self.encoding_s(codec, weights) / KERNEL_GAIN

        def prepare() -> probe.Work:
            lanes.ready[kernel] = lanes.ready.get(kernel) or load(kernel, folder)
            return probe.encoding(codec)

        return self._seconds(name, weights, 0.0, prepare)

    def widening_s(self, dtype: str, weights: float) -> float:
        """Estimate the widening of stored weights to float32, and the look through them."""
        return self._seconds(f"widen {dtype}", weights, WIDENED_PER_S, lambda: probe.widening(dtype))

    def merging_s(self, terms: float) -> float:
        """Estimate the merging of an adapter, by the terms of its products."""
        return self._seconds("merge", terms, TERMS_PER_S, probe.merging)

    def hashing_s(self, size_bytes: float) -> float:
        """Estimate a SHA-256."""
        return self._seconds("sha256", size_bytes, HASHED_BYTES_PER_S, probe.hashing)

    def products_s(self, operations: float) -> float:
        """Estimate operations in products of large matrices of float32."""
        return self._seconds("products", operations, OPERATIONS_PER_S, probe.products)

    def disk(self, folder: Path, size_bytes: float) -> Disk:
        """Say how fast the disk of a folder, which need not be there yet, takes so much."""
        if size_bytes < PROBED_FROM_BYTES:
            return Disk()
        while not folder.is_dir():
            folder = folder.parent
        try:
            # Not kept: what a disk takes depends on what else it is asked for.
            return Disk(*probe.writing(folder))
        except OSError:  # a plan may be for a disk that is full, or that others may write
            return Disk()

    def _seconds(
        self, name: str, amount: float, least_per_s: float, prepare: Callable[[], probe.Work]
    ) -> float:
        if name not in self._known:
            if amount < WORTH_S * least_per_s:
                return amount / least_per_s
            self._keep({name: probe.per_s(prepare(), self._cores)})
        return amount / self._known[name]

    def _keep(self, found: dict[str, float]) -> None:
        self._known |= found
        part = self._path.with_name(f"{self._path.name}.{os.getpid()}.tmp")
        with suppress(OSError):  # in a home that cannot be written, the next plan measures again
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps(self._known, indent=1, sort_keys=True), "utf-8")
            part.replace(self._path)


def _by_importance(codec: Codec) -> str:
    return " by importance" if getattr(codec, "importance", None) else ""


def _machine() -> str:
    """Digest what decides how fast the kernels are: the CPU, its instructions, and their versions."""
    lines = [platform.machine(), str(os.cpu_count())]
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace").partition("\n\n")[0]
        wanted = ("model name", "stepping", "flags", "Features")
        lines += [line for line in text.splitlines() if line.startswith(wanted)]
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            lines.append(f"{package} {version(package)}")
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

"""Where arithmetic on whole matrices is done: on the CPU by numpy, or on an NVIDIA GPU by CuPy.

numpy's functions hand CuPy's arrays to CuPy, so one code does for both. What is made from nothing is made
like an array that is there: `np.zeros_like`, or `like=`.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from convert.errors import Failure
from convert.extras import require
from convert.machine import shows_gpu

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    Numbers = TypeVar("Numbers", bound=np.generic)

# Shares of a GPU's memory: for the weights of the layer that is computed, and for what goes into the next.
HELD_SHARE, STATES_SHARE = 0.4, 0.2


class Device(Protocol):
    """A place for arrays."""

    @property
    def name(self) -> str:
        """Name it for people, and tell apart what is computed on others."""

    @property
    def held_bytes(self) -> int:
        """Say how much of a layer's weights may stay there; 0 where they are read as fast as computed."""

    @property
    def states_bytes(self) -> int:
        """Say how much of what passes between layers may stay there."""

    def threads(self, cores: int) -> int:
        """Say how many threads keep it busy."""

    def put(self, values: NDArray[Numbers]) -> NDArray[Numbers]:
        """Bring an array there."""

    def strict(self) -> AbstractContextManager[Any]:
        """Let what cannot be factored be an error, and what has no room there a Failure."""


class Cpu:
    """The processor that runs this program."""

    name = "cpu"
    held_bytes = 0
    states_bytes = 256 << 20

    def threads(self, cores: int) -> int:
        return cores

    def put(self, values: NDArray[Numbers]) -> NDArray[Numbers]:
        return values

    def strict(self) -> AbstractContextManager[Any]:
        return nullcontext()


class Cuda:
    """The first GPU that CUDA shows."""

    def __init__(self) -> None:
        import cupy  # noqa: PLC0415 - seconds, and only with the extra
        import cupyx  # noqa: PLC0415

        self._cupy, self._cupyx = cupy, cupyx
        try:
            found = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
            memory_bytes = cupy.cuda.Device().mem_info[1]
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise Failure(
                f"the GPU cannot be used: {error}", "check nvidia-smi, or write device: cpu"
            ) from error
        self.name = f"cuda: {found['name'].decode()}"
        self.held_bytes = int(HELD_SHARE * memory_bytes)
        self.states_bytes = int(STATES_SHARE * memory_bytes)

    def threads(self, cores: int) -> int:  # noqa: ARG002 - several would wait for Python's lock at each launch
        return 1

    def put(self, values: NDArray[Numbers]) -> NDArray[Numbers]:
        moved: NDArray[Numbers] = self._cupy.asarray(values)
        return moved

    @contextmanager
    def strict(self) -> Iterator[None]:
        with self._cupyx.errstate(linalg="raise"), enough_memory():
            yield


CPU = Cpu()


@contextmanager
def enough_memory() -> Iterator[None]:
    """Say in one line that a GPU's memory was too little."""
    import cupy  # noqa: PLC0415

    try:
        yield
    except cupy.cuda.memory.OutOfMemoryError as error:
        what = str(error).splitlines()[0]
        raise Failure(f"the GPU's memory is too small: {what}", "write calibration: {device: cpu}") from error


def find_device(asked: str) -> Device:
    """Find the device that a recipe names."""
    return Cuda() if asked == "cuda" else CPU


def why_not(asked: str) -> str:
    """Say why a device cannot be had here, or ""; a Failure names the extra that it needs."""
    if asked != "cuda":
        return ""
    require("cupy")
    return "" if shows_gpu() else "there is no NVIDIA GPU here"


def is_here(values: Any) -> bool:
    """Tell an array of numpy from one of a device."""
    return isinstance(values, np.ndarray)


def on_host(values: NDArray[Numbers]) -> NDArray[Numbers]:
    """Bring an array to the CPU, wherever it is."""
    if is_here(values):
        return values
    taken: NDArray[Numbers] = values.get()  # type: ignore[attr-defined]  # CuPy's
    return taken


def near(values: NDArray[Numbers], other: NDArray[Any]) -> NDArray[Numbers]:
    """Bring an array of the CPU to where another is."""
    moved: NDArray[Numbers] = np.asarray(values, like=other)
    return moved


def tile_of(values: NDArray[Any], here: int) -> int:
    """Say how large the pieces are that a matrix is computed in: on a GPU it is one."""
    return here if is_here(values) else max(1, *values.shape)

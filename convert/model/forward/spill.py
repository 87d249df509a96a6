"""Hidden states between two layers: in memory where they fit, in a file without a name where they do not."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from convert.device import CPU, on_host
from convert.errors import Failure


class States(Protocol):
    """A place for one array of float32 a batch."""

    def load(self, batch: int) -> NDArray[np.float32]:
        """Give back what was stored last."""

    def store(self, batch: int, states: NDArray[np.float32]) -> None:
        """Keep this in the place of what was there."""


@contextmanager
def states(
    shapes: Sequence[tuple[int, ...]], folder: Path | None = None, most_bytes: int = CPU.states_bytes
) -> Iterator[States]:
    """Make room for batches of these shapes; the folder is for temporary files, by default the system's."""
    sizes_bytes = [4 * int(np.prod(shape)) for shape in shapes]
    if sum(sizes_bytes) <= most_bytes:
        yield _Held()
        return
    with ExitStack() as stack:
        with _named(folder, sum(sizes_bytes)):
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
        yield _Spilt(file.fileno(), folder, shapes, np.cumsum([0, *sizes_bytes]).tolist())


@contextmanager
def _named(folder: Path | None, size_bytes: int) -> Iterator[None]:
    """Say which disk is full, or not to be written to."""
    try:
        yield
    except OSError as error:
        raise Failure(
            f"{folder or tempfile.gettempdir()}: {size_bytes} bytes of activations cannot be kept here: "
            f"{error.strerror or error}",
            "free some space, set TMPDIR to another disk, or ask for fewer calibration samples",
        ) from error


class _Held:
    def __init__(self) -> None:
        self._batches: dict[int, NDArray[np.float32]] = {}

    def load(self, batch: int) -> NDArray[np.float32]:
        return self._batches[batch]

    def store(self, batch: int, states: NDArray[np.float32]) -> None:
        self._batches[batch] = states


class _Spilt:
    """Read and written rather than mapped: a full disk is an error then, and no signal."""

    def __init__(
        self,
        descriptor: int,
        folder: Path | None,
        shapes: Sequence[tuple[int, ...]],
        offsets_bytes: Sequence[int],
    ) -> None:
        self._descriptor = descriptor
        self._folder = folder
        self._shapes = shapes
        self._offsets_bytes = offsets_bytes

    def load(self, batch: int) -> NDArray[np.float32]:
        states = np.empty(self._shapes[batch], np.float32)
        with _named(self._folder, self._offsets_bytes[-1]):
            self._move(batch, states, lambda view, offset: os.preadv(self._descriptor, [view], offset))
        return states

    def store(self, batch: int, states: NDArray[np.float32]) -> None:
        with _named(self._folder, self._offsets_bytes[-1]):
            self._move(batch, on_host(states), lambda view, offset: os.pwrite(self._descriptor, view, offset))

    def _move(self, batch: int, states: NDArray[np.float32], move: Callable[[memoryview, int], int]) -> None:
        view, offset_bytes = memoryview(states.data).cast("B"), self._offsets_bytes[batch]
        while view:
            count = move(view, offset_bytes)
            if not count:
                raise OSError("the temporary file ended too soon")
            view, offset_bytes = view[count:], offset_bytes + count

"""One pass over the source: each tensor read once, encoded on all cores, written in place."""

import itertools
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint import Checkpoint, to_f32
from convert.errors import Failure
from convert.model.decoder import Origin, Ref
from convert.writer.codecs import Codec
from convert.writer.layout import Arrange, Layout

# Weights in a slice: large enough that Python's share is small, small enough for a core's cache.
SLICE_WEIGHTS = 1 << 19
# Slices waiting while others are encoded; with the threads they bound the memory of a pass.
SLICES_WAITING = 2
# What a slice holds at most: source, float32, rearranged, encoded, scratch; 4 bytes a weight each.
SLICE_BYTES = SLICE_WEIGHTS * 4 * 5


@dataclass(frozen=True, slots=True)
class Output:
    """A layout and the file that it becomes."""

    layout: Layout
    path: Path


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of a source tensor go in one file."""

    first_row: int
    stop_row: int
    arrange: Arrange | None
    group_rows: int
    codec: Codec
    offsets_bytes: tuple[int, ...]  # of the first row, one a plane
    descriptor: int
    turned_bytes: int = 0  # from one weight of a row to the next, where rows become columns


def available_threads() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_bytes(threads: int, widest_row: int) -> int:
    """Bound the memory of a pass, over that of the program itself."""
    return (threads + SLICES_WAITING) * max(SLICE_BYTES, widest_row * 4 * 5)


def run(
    checkpoint: Checkpoint,
    origins: Mapping[Ref, Origin],
    outputs: Sequence[Output],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> None:
    """Fill every output from one read of the checkpoint; the same bytes for any number of threads."""
    count = threads or available_threads()
    with ExitStack() as stack:
        targets: dict[str, list[Target]] = defaultdict(list)
        for output in outputs:
            descriptor = os.open(output.path, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            os.truncate(descriptor, output.layout.size_bytes)
            for offset_bytes, data in output.layout.fixed:
                _write(descriptor, data, offset_bytes)
            for name, target in _targets(output.layout, descriptor, origins):
                targets[name].append(target)
        _pass(checkpoint, origins, targets, count, advance)


def _targets(layout: Layout, descriptor: int, origins: Mapping[Ref, Origin]) -> Iterator[tuple[str, Target]]:
    for slot in layout.slots:
        row = 0
        row_bytes = slot.codec.row_bytes(slot.columns)
        if slot.is_turned:
            row_bytes = (row_bytes[0] // slot.columns,)
        for piece in slot.pieces:
            origin = origins[piece.ref]
            offsets = tuple(
                offset + row * size for offset, size in zip(slot.offsets_bytes, row_bytes, strict=True)
            )
            yield (
                origin.name,
                Target(
                    origin.first_row,
                    origin.first_row + piece.rows,
                    piece.arrange,
                    piece.group_rows,
                    slot.codec,
                    offsets,
                    descriptor,
                    slot.rows * row_bytes[0] if slot.is_turned else 0,
                ),
            )
            row += piece.rows


def _pass(
    checkpoint: Checkpoint,
    origins: Mapping[Ref, Origin],
    targets: Mapping[str, list[Target]],
    threads: int,
    advance: Callable[[int], None],
) -> None:
    transposed = {origin.name for origin in origins.values() if origin.is_transposed}
    places = threading.Semaphore(threads + SLICES_WAITING)
    failures: list[BaseException] = []

    def work(task: Slice) -> None:
        try:
            if not failures:
                advance(task.encode(checkpoint))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            failures.append(error)
        finally:
            places.release()

    def submit(pool: ThreadPoolExecutor) -> None:
        try:
            for name in checkpoint.tensors:
                for task in _slices(
                    checkpoint, name, targets.get(name, []), is_transposed=name in transposed
                ):
                    places.acquire()
                    if failures:
                        return
                    pool.submit(work, task)
        except BaseException:
            # Ctrl-C among them: what waits in the pool must not be encoded first.
            failures.append(KeyboardInterrupt())
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        submit(pool)
    if failures:
        raise failures[0]


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a source tensor and everywhere they go."""

    name: str
    first_row: int
    stop_row: int
    is_transposed: bool
    targets: tuple[Target, ...]

    def encode(self, checkpoint: Checkpoint) -> int:
        """Read, convert, encode and write these rows; tell how many source bytes they were."""
        rows, size_bytes = self._read(checkpoint)
        if not np.isfinite(rows.max(initial=0)) or not np.isfinite(rows.min(initial=0)):
            raise Failure(
                f"{checkpoint.tensors[self.name].file.name}: {self.name} holds a value that is not a number "
                f"or infinite in rows {self.first_row} to {self.stop_row - 1}",
                "the weights are damaged; fetch the file again",
            )
        encoded: dict[tuple[Codec, Arrange | None], tuple[NDArray[np.uint8], ...]] = {}
        for target in self.targets:
            key = (target.codec, target.arrange)
            if key not in encoded:
                encoded[key] = self._encode(rows, target)
            skipped = self.first_row - target.first_row
            for offset_bytes, plane in zip(target.offsets_bytes, encoded[key], strict=True):
                row_bytes = plane.nbytes // plane.shape[0]
                if target.turned_bytes:
                    _write_turned(target, plane, rows.shape[1], skipped)
                else:
                    _write(target.descriptor, plane, offset_bytes + skipped * row_bytes)
        self._release(checkpoint)
        return size_bytes

    def _encode(self, rows: NDArray[np.float32], target: Target) -> tuple[NDArray[np.uint8], ...]:
        try:
            return target.codec.encode(target.arrange(rows) if target.arrange else rows)
        except Failure as failure:
            raise Failure(f"{self.name}: {failure.message}", failure.hint) from failure

    def _read(self, checkpoint: Checkpoint) -> tuple[NDArray[np.float32], int]:
        info = checkpoint.tensors[self.name]
        if self.is_transposed:
            source = checkpoint.read(self.name)[:, self.first_row : self.stop_row].T
        else:
            source = checkpoint.read(self.name, self.first_row, self.stop_row)
        return to_f32(source, info.dtype).reshape(self.stop_row - self.first_row, -1), source.nbytes

    def _release(self, checkpoint: Checkpoint) -> None:
        """Let the kernel drop what was read, so that resident memory does not grow with the model."""
        shape = checkpoint.tensors[self.name].shape
        if not self.is_transposed:
            checkpoint.release(self.name, self.first_row, self.stop_row)
        elif self.stop_row == shape[1]:
            checkpoint.release(self.name, 0, shape[0])


def _slices(
    checkpoint: Checkpoint, name: str, targets: Sequence[Target], *, is_transposed: bool
) -> Iterator[Slice]:
    """Cut a tensor where its parts meet, and these into slices of whole groups of rows."""
    shape = checkpoint.tensors[name].shape
    columns = math.prod(shape) // max(1, shape[-1] if is_transposed else shape[0] if shape else 1)
    edges = sorted({edge for target in targets for edge in (target.first_row, target.stop_row)})
    for first, stop in itertools.pairwise(edges):
        here = tuple(target for target in targets if target.first_row <= first and stop <= target.stop_row)
        if not here:
            continue
        group = math.lcm(*(target.group_rows for target in here))
        step = max(group, SLICE_WEIGHTS // max(1, columns) // group * group)
        for row in range(first, stop, step):
            yield Slice(name, row, min(stop, row + step), is_transposed, here)


def _write(descriptor: int, data: bytes | NDArray[np.uint8], offset_bytes: int) -> None:
    view = memoryview(data).cast("B")  # type: ignore[arg-type] # numpy's arrays are buffers from 3.12 on
    while view:
        written = os.pwrite(descriptor, view, offset_bytes)
        view = view[written:]
        offset_bytes += written


def _write_turned(target: Target, plane: NDArray[np.uint8], columns: int, skipped: int) -> None:
    """Write rows as columns: the same weight of each row side by side."""
    weights = plane.reshape(plane.shape[0], columns, -1)
    offset_bytes = target.offsets_bytes[0] + skipped * weights.shape[2]
    for number, together in enumerate(np.ascontiguousarray(weights.swapaxes(0, 1))):
        _write(target.descriptor, together, offset_bytes + number * target.turned_bytes)

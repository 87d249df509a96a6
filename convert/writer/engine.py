"""One pass over the source: each tensor read once, encoded on all cores, written in place."""

import itertools
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from convert.checkpoint import Checkpoint
from convert.checkpoint.lent import Scratch
from convert.errors import Failure
from convert.model.tensor import Origin, Ref
from convert.writer.codecs import Codec, plane_rows
from convert.writer.codecs.plain import Plain
from convert.writer.layout import Computed, Layout, Piece

# Weights in a slice: large enough that Python's share is small, small enough for a core's cache.
SLICE_WEIGHTS = 1 << 19
# What a slice holds at most: source, float32, rearranged, encoded, scratch; 4 bytes a weight each.
SLICE_BYTES = SLICE_WEIGHTS * 4 * 5


@dataclass(frozen=True, slots=True)
class Output:
    """A layout and the file that it becomes."""

    layout: Layout
    path: Path


class Part(NamedTuple):
    """A share of the work: the slices in one stretch of the source, of so many of about equal length."""

    number: int  # from 1
    of: int

    def __str__(self) -> str:
        """Write it as a person does: 2/8."""
        return f"{self.number}/{self.of}"

    def holds(self, at_bytes: int, total_bytes: int) -> bool:
        """Say whether a slice that begins there in the source is in this part."""
        return at_bytes * self.of // max(1, total_bytes) == self.number - 1


WHOLE = Part(1, 1)


class Place(NamedTuple):
    """A matrix of the source: a tensor, or one of a stack, maybe stored (columns, rows)."""

    name: str
    matrix: int | None
    is_transposed: bool


@dataclass(frozen=True, slots=True)
class Target:
    """Where the rows of a source matrix go in one file."""

    first_row: int
    stop_row: int
    piece: Piece
    codec: Codec
    offsets_bytes: tuple[int, ...]  # of the first row, one a plane
    descriptor: int
    # Where rows become columns, for each plane: what stays together of a row, and how far apart such are.
    turned_bytes: tuple[tuple[int, int], ...] = ()
    phase: int = 0  # which of every `step` rows it takes
    step: int = 1
    shared_rows: tuple[int, ...] = (1,)  # of the file, by one row of each plane

    @property
    def group_rows(self) -> int:
        return math.lcm(self.piece.group_rows, *self.shared_rows) * self.step

    def is_cut_by(self, edges: Iterable[int]) -> bool:
        """Tell whether rows that share a number would part at one of these."""
        return max(self.shared_rows) > 1 and any(
            self.first_row < edge < self.stop_row and (edge - self.first_row) % self.group_rows
            for edge in edges
        )

    def copies(self, stored_as: str | None) -> bool:
        """Tell whether finite numbers that are stored so go into the file as they are."""
        is_plain = isinstance(self.codec, Plain) and self.codec.name == stored_as
        return is_plain and self.piece.arrange is None and self.step == 1

    def written(self, source_rows: int) -> int:
        """Count the rows of the file that so many source rows become."""
        return source_rows // (self.piece.group_rows * self.step) * self.piece.out_group_rows


def available_threads() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_bytes(threads: int, widest_row: int) -> int:
    """Bound the memory of a pass, over that of the program itself."""
    return threads * max(SLICE_BYTES, widest_row * 4 * 5)


def run(
    checkpoint: Checkpoint,
    origins: Mapping[Ref, Origin],
    outputs: Sequence[Output],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _bytes: None,
    part: Part = WHOLE,
) -> None:
    """Fill every output from one read of the checkpoint; the same bytes for any number of threads.

    Of a `part` only its slices are read and written; what else is in the files stays as it is.
    """
    count = threads or available_threads()
    with ExitStack() as stack:
        targets: dict[Place, list[Target]] = defaultdict(list)
        for output in outputs:
            descriptor = os.open(output.path, os.O_RDWR | os.O_CREAT, 0o666)
            stack.callback(os.close, descriptor)
            os.truncate(descriptor, output.layout.size_bytes)
            if part.number == 1:
                for offset_bytes, data in output.layout.fixed:
                    made = data.make() if isinstance(data, Computed) else data
                    _write(descriptor, made, offset_bytes)
            for place, target in _targets(output.layout, descriptor, origins):
                targets[place].append(target)
        _pass(checkpoint, targets, count, advance, part)


def _targets(
    layout: Layout, descriptor: int, origins: Mapping[Ref, Origin]
) -> Iterator[tuple[Place, Target]]:
    for slot in layout.slots:
        row = 0
        row_bytes = slot.codec.row_bytes(slot.columns)
        turned_bytes: tuple[tuple[int, int], ...] = ()
        if slot.is_turned:
            # By default, and in one plane, each weight.
            row_bytes = getattr(slot.codec, "turned_bytes", (row_bytes[0] // slot.columns,))
            turned_bytes = tuple((size, slot.rows * size) for size in row_bytes)
        shared = plane_rows(slot.codec, len(row_bytes))
        for piece in slot.pieces:
            origin = piece.origin or origins[piece.ref]
            at = row + piece.lane
            for start, count, step in _runs(origin, piece):
                if any(at % rows for rows in shared):
                    raise ValueError(f"{slot.name}: {piece.ref} begins within rows that share a number")
                offsets = tuple(
                    offset + at // rows * size
                    for offset, size, rows in zip(slot.offsets_bytes, row_bytes, shared, strict=True)
                )
                phase = start % step
                first = start - phase
                target = Target(
                    first,
                    first + count * step,
                    piece,
                    piece.codec or slot.codec,
                    offsets,
                    descriptor,
                    turned_bytes,
                    phase,
                    step,
                    shared,
                )
                at += target.written(count * step) * piece.lanes
                yield Place(origin.name, origin.index, origin.is_transposed), target
            if piece.lane == piece.lanes - 1:
                row += piece.out_rows * piece.lanes


def _runs(origin: Origin, piece: Piece) -> Iterator[tuple[int, int, int]]:
    """Find a piece's rows in the source: the first, how many, and the distance from one to the next."""
    first = piece.first_row
    if origin.run_rows in (0, 1):
        yield origin.row(first), piece.rows, origin.period_rows or 1
        return
    while first < piece.first_row + piece.rows:
        count = min(piece.first_row + piece.rows - first, origin.run_rows - first % origin.run_rows)
        if count % piece.group_rows:
            raise ValueError(f"{piece.ref}: groups of {piece.group_rows} rows in runs of {origin.run_rows}")
        yield origin.row(first), count, 1
        first += count


def _pass(
    checkpoint: Checkpoint,
    targets: Mapping[Place, list[Target]],
    threads: int,
    advance: Callable[[int], None],
    part: Part,
) -> None:
    lock = threading.Lock()
    failures: list[BaseException] = []
    order = {name: number for number, name in enumerate(checkpoint.tensors)}
    places = sorted(targets, key=lambda place: (order[place.name], place.matrix or 0))
    slices = _within(part, checkpoint, places, targets)

    def work() -> None:
        """Take the next slice while there is one: as many are in memory as there are threads."""
        scratch = Scratch()
        try:
            while not failures:
                with lock:
                    task = next(slices, None)
                if task is None:
                    return
                advance(task.encode(checkpoint, scratch))
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread and raised there
            failures.append(error)

    with ThreadPoolExecutor(threads, thread_name_prefix="encode") as pool:
        try:
            wait([pool.submit(work) for _ in range(threads)])
        except BaseException:
            failures.append(KeyboardInterrupt())  # the threads end with the slice that each has
            raise
    if failures:
        raise failures[0]


def _within(
    part: Part, checkpoint: Checkpoint, places: Sequence[Place], targets: Mapping[Place, list[Target]]
) -> Iterator["Slice"]:
    """Cut all matrices into slices, and yield those of a part: one stretch of the source as it is read."""
    every = itertools.chain.from_iterable(_slices(checkpoint, place, targets[place]) for place in places)
    if part == WHOLE:
        yield from every
        return
    sizes = {name: checkpoint.tensors[name].size_bytes for name in {place.name for place in places}}
    total_bytes, at_bytes = sum(sizes.values()), 0
    for each in every:
        if part.holds(at_bytes, total_bytes):
            yield each
        at_bytes += each.source_bytes(checkpoint)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rows of a source matrix and everywhere they go."""

    place: Place
    first_row: int
    stop_row: int
    matrix_rows: int
    targets: tuple[Target, ...]

    def encode(self, checkpoint: Checkpoint, scratch: Scratch) -> int:
        """Read, convert, encode and write these rows; tell how many source bytes they were."""
        name, index, is_transposed = self.place
        bounds = self.first_row, self.stop_row
        with checkpoint.lend(scratch, name, *bounds, index=index, is_transposed=is_transposed) as lent:
            is_copied = [target.copies(lent.stored_as) for target in self.targets]
            if not all(is_copied):
                lent.wide()
            if not lent.is_finite():
                raise Failure(
                    f"{checkpoint.tensors[name].file.name}: {name} holds a value that is not a number "
                    f"or infinite in rows {self.first_row} to {self.stop_row - 1}",
                    "the weights are damaged; fetch the file again",
                )
            encoded: dict[object, tuple[NDArray[np.uint8], ...]] = {}
            for target, is_same in zip(self.targets, is_copied, strict=True):
                if is_same:
                    self._write(target, (lent.rows.view(np.uint8),))
                    continue
                key = (target.codec, target.piece.arrange, target.phase, target.step)
                if key not in encoded:
                    encoded[key] = self._encode(lent.wide()[target.phase :: target.step], target)
                self._write(target, encoded[key])
        return self.source_bytes(checkpoint)

    def _write(self, target: Target, planes: tuple[NDArray[np.uint8], ...]) -> None:
        first = target.written(self.first_row - target.first_row)
        if target.turned_bytes:
            for number, plane in enumerate(planes):
                _write_turned(target, plane, number, first)
            return
        for offset_bytes, plane, shared in zip(target.offsets_bytes, planes, target.shared_rows, strict=True):
            written = first // shared
            row_bytes = plane.nbytes // plane.shape[0]
            if target.piece.lanes > 1:
                step_bytes = row_bytes * target.piece.lanes
                for number, row in enumerate(plane, written):
                    _write(target.descriptor, row, offset_bytes + number * step_bytes)
            else:
                _write(target.descriptor, plane, offset_bytes + written * row_bytes)

    def _encode(self, rows: NDArray[np.float32], target: Target) -> tuple[NDArray[np.uint8], ...]:
        arrange = target.piece.arrange
        try:
            return target.codec.encode(arrange(rows) if arrange else np.ascontiguousarray(rows))
        except Failure as failure:
            raise Failure(f"{self.place.name}: {failure.message}", failure.hint) from failure

    def source_bytes(self, checkpoint: Checkpoint) -> int:
        """Share a matrix's bytes out, such that the shares add up."""
        info = checkpoint.tensors[self.place.name]
        size = info.size_bytes if self.place.matrix is None else info.size_bytes // info.shape[0]
        return size * self.stop_row // self.matrix_rows - size * self.first_row // self.matrix_rows


def _slices(checkpoint: Checkpoint, place: Place, targets: Sequence[Target]) -> Iterator[Slice]:
    """Cut a matrix where its parts meet, and these into slices of whole groups of rows."""
    shape = checkpoint.tensors[place.name].shape
    shape = shape if place.matrix is None else shape[1:]
    matrix_rows = shape[-1] if place.is_transposed else shape[0] if shape else 1
    columns = math.prod(shape) // max(1, matrix_rows)
    edges = sorted({edge for target in targets for edge in (target.first_row, target.stop_row)})
    ordered = sorted(targets, key=lambda target: target.first_row)
    if apart := [target for target in ordered if target.is_cut_by(edges)]:
        # Where two files cut a matrix so that neither's rows fit the other's, it is read once for each.
        rest = [target for target in ordered if target not in apart]
        for part in (apart[:1], apart[1:] + rest):
            yield from _slices(checkpoint, place, part)
        return
    for first, stop in itertools.pairwise(edges):
        here = tuple(target for target in ordered if target.first_row <= first and stop <= target.stop_row)
        if not here:
            continue
        group = math.lcm(*(target.group_rows for target in here))
        step = max(group, SLICE_WEIGHTS // max(1, columns) // group * group)
        for row in range(first, stop, step):
            yield Slice(place, row, min(stop, row + step), matrix_rows, here)


def _write(descriptor: int, data: bytes | NDArray[np.uint8], offset_bytes: int) -> None:
    view = memoryview(data).cast("B")  # type: ignore[arg-type] # numpy's arrays are buffers from 3.12 on
    while view:
        written = os.pwrite(descriptor, view, offset_bytes)
        view = view[written:]
        offset_bytes += written


def _write_turned(target: Target, plane: NDArray[np.uint8], number: int, written: int) -> None:
    """Write rows as columns: the same part of each row side by side."""
    size_bytes, apart_bytes = target.turned_bytes[number]
    parts = plane.reshape(plane.shape[0], -1, size_bytes)
    offset_bytes = target.offsets_bytes[number] + written * size_bytes
    for at, together in enumerate(np.ascontiguousarray(parts.swapaxes(0, 1))):
        _write(target.descriptor, together, offset_bytes + at * apart_bytes)

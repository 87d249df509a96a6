"""One pass over the source: each tensor read once, encoded on all cores, written in place."""

import itertools
import math
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from convert.checkpoint import Checkpoint
from convert.checkpoint.lent import Scratch
from convert.model.tensor import Origin, Ref
from convert.writer.codecs import Codec, plane_rows
from convert.writer.layout import Computed, Layout, Piece
from convert.writer.share import WHOLE, Part, Share
from convert.writer.sink import PEAK_BYTES, Drain, HeardSink, Sink
from convert.writer.slice import Place, Slice, Target

# Weights in a slice: large enough that Python's share is small, small enough for a core's cache.
SLICE_WEIGHTS = 1 << 19
# What a slice holds of each weight at most: source, float32, rearranged, encoded, scratch; 4 bytes each.
WEIGHT_BYTES = 4 * 5


@dataclass(frozen=True, slots=True)
class Output:
    """A layout and the file that it becomes."""

    layout: Layout
    path: Path
    # Where a part is made away from the others: the file is cut into stretches of this length, and a part
    # makes whole ones. None where all parts write into one file.
    stretch_bytes: int | None = None
    # Hears the file from its start while it is filled, as far as that goes without waiting.
    hears: Callable[[memoryview], None] | None = None


def available_threads() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def slice_weights(codecs: Iterable[Codec]) -> int:
    """Say how many weights are in a slice that all of these encode."""
    return max([SLICE_WEIGHTS, *(getattr(codec, "slice_weights", 0) for codec in codecs)])


def peak_bytes(threads: int, widest_row: int, most_weights: int = SLICE_WEIGHTS) -> int:
    """Bound the memory of a pass, over that of the program itself."""
    return threads * max(most_weights, widest_row) * WEIGHT_BYTES + PEAK_BYTES


def run(
    checkpoint: Checkpoint,
    origins: Mapping[Ref, Origin],
    outputs: Sequence[Output],
    *,
    threads: int | None = None,
    advance: Callable[[int], None] = lambda _bytes: None,
    part: Part = WHOLE,
) -> tuple[tuple[int, ...], ...]:
    """Fill every output from one read of the checkpoint; the same bytes for any number of threads.

    Tensors are read in the order of the first output, so that its start is final long before its end; of a
    `part`, in the order of the source. Of it only its slices are read and written; what else is in the files
    stays as it is. Return the stretches of each output that are whole now, where it has stretches.
    """
    count = threads or available_threads()
    with ExitStack() as stack:
        targets: dict[Place, list[Target]] = defaultdict(list)
        drain = stack.enter_context(Drain(count))
        sinks: list[Sink] = []
        for output in outputs:
            sinks.append(sink := _sink(output, drain))
            for place, target in _targets(output.layout, sink, origins):
                targets[place].append(target)
        places = list(targets)
        if part != WHOLE:
            order = {name: number for number, name in enumerate(checkpoint.tensors)}
            places.sort(key=lambda place: (order[place.name], place.matrix or 0))
        cut = _Cut(checkpoint, places, targets, part)
        shares = {
            sink: Share(output.layout.size_bytes, output.stretch_bytes, part)
            for sink, output in zip(sinks, outputs, strict=True)
            if output.stretch_bytes is not None
        }
        cut.divide(shares)
        for sink, output in zip(sinks, outputs, strict=True):
            share = shares.get(sink)
            for offset_bytes, data in output.layout.fixed:
                is_mine = part.number == 1 if share is None else share.has(offset_bytes, len(data))
                if is_mine:
                    sink.write(data.make() if isinstance(data, Computed) else data, offset_bytes)
        _pass(checkpoint, cut.slices(shares), count, advance)
        drain.finish()
        return tuple(shares[each].mine if each in shares else () for each in sinks)


def _sink(output: Output, drain: Drain) -> Sink:
    """Open a file; one that is made here alone is heard while it is filled, where somebody listens."""
    layout = output.layout
    if output.hears is None:
        return Sink(output.path, layout.size_bytes, drain)
    fixed = ((at, len(data)) for at, data in layout.fixed)
    slots = (
        place for slot in layout.slots for place in zip(slot.offsets_bytes, slot.sizes_bytes, strict=True)
    )
    return HeardSink(output.path, layout.size_bytes, drain, itertools.chain(fixed, slots), output.hears)


def _targets(layout: Layout, sink: Sink, origins: Mapping[Ref, Origin]) -> Iterator[tuple[Place, Target]]:
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
                    sink,
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
    slices: Iterator[Slice],
    threads: int,
    advance: Callable[[int], None],
) -> None:
    lock = threading.Lock()
    failures: list[BaseException] = []

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


@dataclass(frozen=True, slots=True)
class _Cut:
    """All matrices, cut into slices in the order in which they are read."""

    checkpoint: Checkpoint
    places: Sequence[Place]
    targets: Mapping[Place, list[Target]]
    part: Part

    def divide(self, shares: Mapping[Sink, Share]) -> None:
        """Let each stretch be made by the part in which the first slice is that goes into it."""
        if not shares:
            return
        for each, number in self._numbered():
            for target in each.targets:
                if (share := shares.get(target.sink)) is not None:
                    for start, stop in each.spans(target):
                        share.claim(start, stop, number)

    def slices(self, shares: Mapping[Sink, Share]) -> Iterator[Slice]:
        """Yield the slices of a part: one stretch of the source, or all that goes into its own files."""
        if not shares:
            yield from (each for each, number in self._numbered() if number == self.part.number)
            return
        for each, _ in self._numbered():
            mine = tuple(
                target
                for target in each.targets
                if any(shares[target.sink].has(at, stop - at) for at, stop in each.spans(target))
            )
            if mine:
                yield replace(each, targets=mine)

    def _numbered(self) -> Iterator[tuple[Slice, int]]:
        """Yield each slice with the number of the part that its place in the source gives it to."""
        names = {place.name for place in self.places}
        total_bytes = sum(self.checkpoint.tensors[name].size_bytes for name in names)
        at_bytes = 0
        for place in self.places:
            for each in _slices(self.checkpoint, place, self.targets[place]):
                yield each, self.part.number_at(at_bytes, total_bytes)
                at_bytes += each.source_bytes(self.checkpoint)


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
        step = slice_rows([target.codec for target in here], max(1, columns), group)
        for row in range(first, stop, step):
            yield Slice(place, row, min(stop, row + step), matrix_rows, here)


def slice_rows(codecs: Sequence[Codec], columns: int, group: int) -> int:
    """Say how many rows are in a slice: whole groups, and of what codecs encode together all, if possible."""
    rows = max(group, slice_weights(codecs) // columns // group * group)
    together = (getattr(codec, "rows_together", None) for codec in codecs)
    whole = math.lcm(group, *(count(columns) for count in together if count))
    return rows // whole * whole or rows

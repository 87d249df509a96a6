"""Foresee how long the steps of a conversion take on this machine, and what each of them waits for."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from convert.checkpoint.adapter import cost
from convert.pipeline.encoding import COMPILING, Encoding
from convert.pipeline.result import PlannedStep
from convert.pipeline.sampling import Sample, sample
from convert.pipeline.transform import rotated_count, transform_cost
from convert.source.digest import DigestNotes
from convert.writer import engine
from convert.writer.sink import BLOCK_BYTES, FILE_BLOCKS
from convert.writer.speed import Disk, Speeds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.formats.base import Weight
    from convert.pipeline.run import Job, Run
    from convert.writer.codecs import Codec
    from convert.writer.layout import Layout

# What a source is stored as, by its bytes a weight, until its headers are here.
STORED = {1: "F8_E4M3", 2: "BF16", 4: "F32", 8: "F64"}
# The share of the cores that a tool keeps busy.
TOOL_BUSY = 0.7
DEVICES = {"cpu": "CPU", "cuda": "GPU"}
# Threads that a disk serves nearly as fast as one.
READERS = 4
# Layers are multiplied in pieces, and what is between the products is not multiplied at all.
FORWARD_SLOWNESS = 1.5
# Weights of one step of a rotation, which has as many as its size has factors of two.
ROTATED_PER_CORE_S = 1e9
# Of 32-bit numbers, by an H100, with all that is between the products.
GPU_OPERATIONS_S = 15e12


class Reading(NamedTuple):
    """What reading the source takes of one core, and of the disk."""

    core_s: float
    disk_s: float


class Forecast:
    """The steps of a conversion of some of a run's jobs; what they have in common is found once."""

    def __init__(self, run: Run, threads: int) -> None:
        self._run = run
        self._threads = threads
        self._speeds = Speeds(run.hub.notes, engine.available_threads())
        self._sample: Sample | None = None
        self._disk: Disk | None = None

    def steps(self, jobs: Sequence[Job]) -> Iterator[PlannedStep]:
        """List the steps in their order."""
        if to_check := self._unknown_sizes():
            core_s = self._speeds.hashing_s(sum(to_check))
            seconds = self._speeds.hashing_s(max(sum(to_check) / self._threads, *to_check))
            yield PlannedStep("check", seconds, core_s, "SHA-256")
        if jobs and (rotated := rotated_count(self._run)):
            core_s = rotated * math.log2(self._run.model.decoder.hidden_size) / ROTATED_PER_CORE_S
            yield PlannedStep("rotating", core_s / self._threads, core_s, self._cores("adding"))
        if jobs and (scales := transform_cost(self._run)) and scales.operations:
            yield self._learning("learning scales", scales.operations)
        if learning := max((job.planned.learning for job in jobs), default=0.0):
            yield self._learning("learning", learning)
        if measured := max((job.planned.measured for job in jobs), default=0):
            reading = self._reading(measured)
            waits = {self._cores("reading"): reading.core_s / self._threads, "reading": reading.disk_s}
            yield _longest("global scales", waits, reading.core_s)
        # What several budgets need is tried once.
        trials = {codec: count for job in jobs for codec, count in job.planned.trials.items()}
        if trials:
            core_s = sum(self._speeds.encoding_s(codec, count) for codec, count in trials.items())
            yield PlannedStep("measure types", core_s / self._threads, core_s, self._cores("encoding"))
        layouts = [layout for job in jobs for layout in job.planned.layouts]
        scratch = {id(job.planned.finish): job.planned.finish for job in jobs if job.planned.finish}
        scratch_layouts = [layout for finish in scratch.values() for layout in finish.scratch.layouts]
        if layouts or scratch_layouts:
            sizes = [layout.size_bytes for layout in layouts]
            yield self._pass([*layouts, *scratch_layouts], sum(sizes))
        if layouts:
            yield self._digest([min(each, FILE_BLOCKS * BLOCK_BYTES) for each in sizes])
        for job in jobs:
            if finish := job.planned.finish:
                limit = f"GPTQModel on the {DEVICES.get(finish.device, finish.device)}"
                seconds = self.tool_s(job)
                core_s = seconds * (TOOL_BUSY * self._threads if finish.device == "cpu" else 1)
                yield PlannedStep(f"{job.wanted.format.name} layers", seconds, core_s, limit)

    def _learning(self, name: str, operations: float) -> PlannedStep:
        text = self._run.recipe.calibration
        if text is not None and text.device == "cuda":
            seconds = operations / GPU_OPERATIONS_S
            return PlannedStep(name, seconds, seconds, "multiplying on the GPU")
        core_s = FORWARD_SLOWNESS * self._speeds.products_s(operations)
        return PlannedStep(name, core_s / self._threads, core_s, self._cores("multiplying"))

    def tool_s(self, job: Job) -> float:
        """Estimate what a tool takes that makes an artifact's big files after the pass."""
        finish = job.planned.finish
        return finish.seconds(self._threads, self._speeds) if finish else 0.0

    def _unknown_sizes(self) -> list[int]:
        """List the sizes of what a conversion digests first: of a local folder, what has changed."""
        source, notes = self._run.source, DigestNotes(self._run.hub.notes)
        if source.digests or not source.listing.folder:
            return []
        files = source.listing.files
        return [
            files[name].size_bytes
            for name in source.weights
            if notes.recall(source.listing.folder / name) is None
        ]

    def _pass(self, layouts: Sequence[Layout], digested_bytes: int) -> PlannedStep:
        """Weigh the cores' work against the disk's; both go on at once."""
        weights, read = _encoded(layouts)
        encoding = Encoding(self._speeds, self._run.hub.notes, self._threads)
        shares = {
            name if name == COMPILING else f"encoding {name}": core_s
            for name, core_s in encoding.core_s(weights).items()
        }
        written_bytes = sum(layout.size_bytes for layout in layouts)
        disk = self._disk_of(written_bytes)
        reading = self._reading(read)
        shares |= {"reading": reading.core_s, "writing": written_bytes / disk.copied_per_s}
        shares["SHA-256"] = self._speeds.hashing_s(digested_bytes)
        if self._run.lora:
            shares["merging the adapter"] = self._speeds.merging_s(cost.terms(self._run.lora))
        core_s = sum(shares.values())
        waits = {
            self._cores(max(shares, key=lambda name: shares[name])): core_s / self._threads,
            "reading from the disk": reading.disk_s,
            "writing to the disk": written_bytes / disk.taken_per_s,
        }
        return _longest("convert", waits, core_s)

    def _digest(self, sizes: Sequence[int]) -> PlannedStep:
        """Weigh what is left of the digests when the pass ends, a core a file, against the disk."""
        total = sum(sizes)
        waits = {
            "SHA-256": self._speeds.hashing_s(max(total / self._threads, *sizes)),
            "writing to the disk": total / self._disk_of(total).taken_per_s,
        }
        return _longest("digest", waits, self._speeds.hashing_s(total))

    def _reading(self, weights: int) -> Reading:
        """Read a little of the source where it is; else go by what its weights are stored as."""
        size_bytes = self._run.source.weight_bytes
        if self._sample is None:
            self._sample = sample(self._run)
        if self._sample:
            at_once = min(self._threads, READERS)
            disk_s = size_bytes / self._sample.bytes_per_s / at_once
            return Reading(weights / self._sample.weights_per_core_s, disk_s)
        width = round(size_bytes / max(1, self._run.model.decoder.parameter_count))
        return Reading(self._speeds.widening_s(STORED.get(width, "BF16"), weights), 0.0)

    def _disk_of(self, size_bytes: float) -> Disk:
        self._disk = self._disk or self._speeds.disk(self._run.store.root, size_bytes)
        return self._disk

    def _cores(self, work: str) -> str:
        return f"{work} on {self._threads} core{'s' if self._threads > 1 else ''}"


def _encoded(layouts: Sequence[Layout]) -> tuple[Mapping[Codec, int], int]:
    """Count the weights that each codec encodes, and those that are read: each once, however often wanted."""
    weights: dict[Codec, int] = defaultdict(int)
    seen: set[object] = set()
    read = 0
    for layout in layouts:
        for slot in layout.slots:
            for piece in slot.pieces:
                codec, count = piece.codec or slot.codec, piece.rows * piece.columns
                where = piece.ref, piece.origin, piece.first_row
                if where not in seen:
                    seen.add(where)
                    read += count
                if (how := (*where, codec, piece.arrange)) not in seen:
                    seen.add(how)
                    weights[codec] += count
    return weights, read


def _longest(label: str, waits: Mapping[str, float], core_s: float) -> PlannedStep:
    limit = max(waits, key=lambda name: waits[name])
    return PlannedStep(label, waits[limit], core_s, limit)


def before_it_is_here(weights: Iterable[Weight], native: str, notes: Path) -> float | None:
    """Estimate the pass over a source that is yet to be downloaded; None where a tool does the work."""
    counts: dict[Codec, int] = defaultdict(int)
    written_bytes = 0
    for each in weights:
        written_bytes += each.size_bytes
        if each.codec:
            counts[each.codec] += each.count
        elif each.ref:
            return None
    threads = engine.available_threads()
    speeds, disk = Speeds(notes, threads), Disk()
    core_s = sum(Encoding(speeds, notes, threads).core_s(counts).values())
    core_s += speeds.widening_s(native, sum(counts.values())) + speeds.hashing_s(written_bytes)
    core_s += written_bytes / disk.copied_per_s
    return max(core_s / threads, written_bytes / disk.taken_per_s)

"""Read a little of a source that is here, to foresee how long all of it takes."""

from __future__ import annotations

import math
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from convert.checkpoint import Checkpoint, open_checkpoint
from convert.errors import Failure

if TYPE_CHECKING:
    from convert.pipeline.run import Run

SLICES, SLICE_WEIGHTS = 12, 1 << 19
# Below so many weights nothing is foreseen that a person would wait for.
WORTH_WEIGHTS = 1 << 25


class Sample(NamedTuple):
    """What a core widens in a second, and what the disk brings; infinite where the source is in memory."""

    weights_per_core_s: float
    bytes_per_s: float


def sample(run: Run) -> Sample | None:
    """Widen slices from anywhere in the large matrices; None where the source is small, or not here."""
    folder = run.source.small.folder
    is_here = all((folder / name).is_file() for name in run.source.weights)
    if run.model.decoder.parameter_count < WORTH_WEIGHTS or not is_here:
        return None
    with suppress(Failure, OSError), open_checkpoint(folder) as checkpoint:  # a conversion says what is wrong
        return _read(checkpoint)
    return None


def _read(checkpoint: Checkpoint) -> Sample | None:
    matrices = [
        info
        for info in checkpoint.tensors.values()
        if len(info.shape) == 2 and math.prod(info.shape) >= SLICE_WEIGHTS
    ]
    if not matrices:
        return None
    weights = read_bytes = waits = 0.0
    core_s = time.thread_time()
    dice = random.Random()  # noqa: S311 - a plan that is made again must not find only what it has read
    for info in dice.choices(matrices, [info.size_bytes for info in matrices], k=SLICES):
        count = max(1, SLICE_WEIGHTS // info.shape[1])
        first = dice.randrange(info.shape[0] - count + 1)
        faults, began_s, busy_s = _faults(), time.perf_counter(), time.thread_time() + _put_off_s()
        rows = checkpoint.rows(info.name, first, first + count)
        rows.max(initial=0)
        rows.min(initial=0)
        checkpoint.release_rows(info.name, first, first + count)
        # A thread that had nothing to wait for was only put off by other programs.
        if _faults() > faults:
            waits += time.perf_counter() - began_s - (time.thread_time() + _put_off_s() - busy_s)
        weights += rows.size
        read_bytes += info.size_bytes * count / info.shape[0]
    core_s = time.thread_time() - core_s
    return Sample(weights / core_s, read_bytes / waits if waits > 0 else math.inf)


def _put_off_s() -> float:
    """Return how long this thread was ready to run, and others had the cores."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _faults() -> int:
    """Count the times that this thread has waited for a disk to bring what it wanted to look at."""
    try:
        import resource  # noqa: PLC0415 - not on Windows

        return resource.getrusage(resource.RUSAGE_THREAD).ru_majflt
    except (ImportError, AttributeError):
        return 0

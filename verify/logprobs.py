"""The odds that a model gives each next token, position by position, over windows of text.

Windows are cut as llama-perplexity cuts them: no overlap, the first half read only, the second half scored.
"""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from verify.worker import Worker

# Of float64 values at a time; some three arrays of this size are alive at once.
CHUNK_VALUES = 1 << 20
MIN_LENGTH = 16


@dataclass(frozen=True)
class Windows:
    """Stretches of text as token ids, all of one length."""

    ids: tuple[tuple[int, ...], ...]

    @property
    def length(self) -> int:
        """Tokens in each."""
        return len(self.ids[0])

    @property
    def scored(self) -> range:
        """The positions whose next token is scored; perplexity.cpp has the same `first` and end."""
        return range(self.length // 2, self.length - 1)

    @property
    def positions(self) -> int:
        """How many are scored in all."""
        return len(self.ids) * len(self.scored)

    def targets(self) -> NDArray[np.int64]:
        """The tokens that come next: (windows, scored)."""
        first = self.scored.start
        return np.array([window[first + 1 :] for window in self.ids], np.int64)


def cut(ids: Sequence[int], length: int, *, bos_id: int | None = None, most: int | None = None) -> Windows:
    """Cut a text's tokens into windows, `most` of them; `bos_id` takes the place of each first token."""
    if length < MIN_LENGTH or len(ids) < length:
        raise Failure(
            f"the text to measure on has {len(ids)} tokens, and a window takes {max(length, MIN_LENGTH)}",
            "give a longer one: --text, or verify.text in the recipe",
        )
    count = len(ids) // length
    cuts = [
        list(ids[at * length : (at + 1) * length])
        for at in range(count if most is None else min(count, most))
    ]
    for window in cuts:
        if bos_id is not None:
            window[0] = bos_id
    return Windows(tuple(map(tuple, cuts)))


def scored_logits(worker: Worker, windows: Windows) -> Iterator[NDArray[np.float32]]:
    """The logits of every scored position in order, in blocks of rows."""
    for window in windows.ids:
        at = 0
        with closing(worker.logits(window)) as blocks:
            for block in blocks:
                wanted = block[max(0, windows.scored.start - at) : max(0, windows.scored.stop - at)]
                at += len(block)
                if len(wanted):
                    yield wanted
        if at != windows.length:
            raise Failure(f"{at} rows of logits came for {windows.length} tokens")


def log_odds(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Natural logarithms of probabilities: the softmax, stable for any finite logits."""
    if not np.isfinite(logits).all():
        raise Failure("its logits hold values that are no finite numbers")
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values


def surprise(worker: Worker, windows: Windows) -> NDArray[np.float64]:
    """The negative log probability of each scored token: (windows, scored)."""
    targets, found, at = windows.targets().ravel(), np.empty(windows.positions), 0
    for block in scored_logits(worker, windows):
        for part in _parts(block):
            rows = slice(at, at + len(part))
            found[rows] = -_picked(log_odds(part), targets[rows])
            at += len(part)
    return found.reshape(len(windows.ids), -1)


@dataclass(frozen=True)
class Reference:
    """The source's logits of the scored positions, in a file: float32, row after row."""

    path: Path
    windows: Windows
    vocab_size: int

    def rows(self) -> RowReader:
        """Read from the beginning."""
        return RowReader(self.path, self.vocab_size)


class RowReader:
    """Reads a reference in order, holding only what was asked for."""

    def __init__(self, path: Path, vocab_size: int) -> None:
        self._file = path.open("rb", buffering=0)
        self._vocab_size = vocab_size

    def take(self, count: int) -> NDArray[np.float32]:
        """The next rows."""
        rows = np.fromfile(self._file, "<f4", count * self._vocab_size)
        if rows.size != count * self._vocab_size:
            raise Failure(f"{self._file.name}: ends too early", "remove it; it is made anew")
        return rows.reshape(count, self._vocab_size)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def refer(worker: Worker, windows: Windows, path: Path) -> Reference:
    """Have the source's logits in a file; one that stands there with the right size is taken as it is."""
    vocab_size = worker.info.vocab_size or 0
    reference = Reference(path, windows, vocab_size)
    size_bytes = windows.positions * vocab_size * 4
    if path.is_file() and path.stat().st_size == size_bytes:
        os.utime(path)  # the least recently used is removed first
        return reference
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            for block in scored_logits(worker, windows):
                np.ascontiguousarray(block, "<f4").tofile(file)
        if part.stat().st_size != size_bytes:
            raise Failure(f"{part}: the source's logits do not have the size that its vocabulary says")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return reference


@dataclass(frozen=True)
class Pairing:
    """The source and an artifact side by side, position by position: (windows, scored) each."""

    source_surprise: NDArray[np.float64]
    surprise: NDArray[np.float64]
    divergence: NDArray[np.float64]  # KL(source ‖ artifact), in nats
    is_same_top: NDArray[np.bool_]


def pair(worker: Worker, reference: Reference) -> Pairing:
    """Ask the artifact about the reference's windows, and compare while its logits come."""
    windows = reference.windows
    if worker.info.vocab_size != reference.vocab_size:
        raise Failure(
            f"it has {worker.info.vocab_size} tokens and the source {reference.vocab_size}: "
            "their odds cannot be compared"
        )
    targets, at = windows.targets().ravel(), 0
    shape = (len(windows.ids), len(windows.scored))
    figures = np.empty((3, windows.positions))
    same = np.empty(windows.positions, np.bool_)
    with closing(reference.rows()) as reader:
        for block in scored_logits(worker, windows):
            for part in _parts(block):
                rows = slice(at, at + len(part))
                true = reader.take(len(part))
                wanted, got = log_odds(true), log_odds(part)
                same[rows] = true.argmax(axis=1) == part.argmax(axis=1)
                figures[0, rows] = -_picked(wanted, targets[rows])
                figures[1, rows] = -_picked(got, targets[rows])
                # Rounding can leave a hair below zero, which no divergence is.
                figures[2, rows] = np.maximum(0.0, np.einsum("ij,ij->i", np.exp(wanted), wanted - got))
                at += len(part)
    true_surprise, own_surprise, divergence = (figure.reshape(shape) for figure in figures)
    return Pairing(true_surprise, own_surprise, divergence, same.reshape(shape))


def _parts(block: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    rows = max(1, CHUNK_VALUES // block.shape[1])
    return (block[start : start + rows] for start in range(0, len(block), rows))


def _picked(values: NDArray[np.float64], targets: NDArray[np.int64]) -> NDArray[np.float64]:
    picked: NDArray[np.float64] = values[np.arange(len(targets)), targets]
    return picked

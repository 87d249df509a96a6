"""Measure what codecs lose, on a sample of the rows of each tensor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from convert.checkpoint import Checkpoint
    from convert.model.source import Weights
    from convert.model.tensor import Origin, Ref
    from convert.progress import Progress
    from convert.writer.layout import Piece

# Weights of a tensor that are tried: enough to know an error to a hundredth or two.
SAMPLE_WEIGHTS = 1 << 16


class Reversible(Protocol):
    """A codec whose bytes can be read again."""

    def encode(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.uint8], ...]: ...

    def decode(self, planes: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.float32]: ...


@dataclass(frozen=True, slots=True)
class Trial:
    """A tensor, its codecs to try by name, and the importance of its columns: one of each a piece."""

    name: str
    pieces: tuple[Piece, ...]
    codecs: Mapping[str, tuple[Reversible, ...]]
    importance: tuple[NDArray[np.float32] | None, ...]

    @property
    def size_bytes(self) -> int:
        """Say how much of it is tried, roughly, in float32."""
        return 4 * sample_size(self.pieces)


def sample_size(pieces: Iterable[Piece]) -> int:
    """Say how many weights of a tensor are tried, roughly: a piece is tried on one group of rows at least."""
    return min(SAMPLE_WEIGHTS, sum(piece.rows * piece.columns for piece in pieces))


def measure(
    checkpoint: Checkpoint,
    origins: Mapping[Ref, Origin],
    trials: Sequence[Trial],
    *,
    threads: int,
    advance: Callable[[int], None] = lambda _bytes: None,
) -> dict[str, dict[str, float]]:
    """Give each tensor's error by each codec, as a share of what it makes of its input.

    Rows are taken at even distances; the same checkpoint gives the same errors on any number of threads.
    """

    def one(trial: Trial) -> dict[str, float]:
        found = _errors(checkpoint, origins, trial)
        advance(trial.size_bytes)
        return found

    with ThreadPoolExecutor(threads, thread_name_prefix="measure") as pool:
        return dict(zip((trial.name for trial in trials), pool.map(one, trials), strict=True))


def measure_all(weights: Weights, trials: Sequence[Trial], progress: Progress) -> dict[str, dict[str, float]]:
    """Measure on all cores, and show how far that is."""
    from convert.writer.engine import available_threads  # noqa: PLC0415 - once there are weights to read

    with progress.stage("measure types", sum(trial.size_bytes for trial in trials)) as advance:
        return measure(
            weights.checkpoint, weights.origins, trials, threads=available_threads(), advance=advance
        )


def _errors(checkpoint: Checkpoint, origins: Mapping[Ref, Origin], trial: Trial) -> dict[str, float]:
    lost, made = dict.fromkeys(trial.codecs, 0.0), 0.0
    for number, rows in enumerate(sampled(checkpoint, origins, trial.pieces)):
        weights = trial.importance[number]
        made += _weighed(rows, weights)
        for name, codecs in trial.codecs.items():
            read = codecs[number].decode(codecs[number].encode(rows), rows.shape[1])
            lost[name] += _weighed(read - rows, weights)
    return {name: each / made if made else 0.0 for name, each in lost.items()}


def _weighed(rows: NDArray[np.float32], weights: NDArray[np.float32] | None) -> float:
    """Sum the squares up, by column and then by the importance of each."""
    squares = np.einsum("ij,ij->j", rows, rows, dtype=np.float64)
    return float(squares.sum() if weights is None else squares @ weights.astype(np.float64))


def sampled(
    checkpoint: Checkpoint, origins: Mapping[Ref, Origin], pieces: Sequence[Piece]
) -> Iterator[NDArray[np.float32]]:
    """Read groups of rows of each piece, as they go into the file."""
    total = sum(piece.rows * piece.columns for piece in pieces)
    for piece in pieces:
        origin = piece.origin or origins[piece.ref]
        groups = piece.rows // piece.group_rows
        wanted = SAMPLE_WEIGHTS * piece.rows // max(1, total) // piece.group_rows
        count = min(groups, max(1, wanted))
        found = [
            _group(checkpoint, origin, piece, (2 * number + 1) * groups // (2 * count))
            for number in range(count)
        ]
        rows = np.concatenate(found)
        if not np.isfinite(rows).all():
            raise Failure(f"{origin.name} holds a value that is not a number or infinite", "fetch it again")
        yield rows


def _group(checkpoint: Checkpoint, origin: Origin, piece: Piece, number: int) -> NDArray[np.float32]:
    first = piece.first_row + number * piece.group_rows
    places = [origin.row(row) for row in range(first, first + piece.group_rows)]
    where: dict[str, Any] = {"index": origin.index, "is_transposed": origin.is_transposed}
    rows = checkpoint.rows(origin.name, places[0], places[-1] + 1, **where)
    rows = rows[[place - places[0] for place in places]]
    checkpoint.release_rows(origin.name, places[0], places[-1] + 1, **where)
    return np.ascontiguousarray(piece.arrange(rows) if piece.arrange else rows, np.float32)

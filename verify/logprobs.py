"""The log probabilities that a model gives each next token, position by position, over windows of text.

Windows are cut as llama-perplexity cuts them: no overlap, the first half read only, the second half scored.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convert.errors import Failure
from verify.atomic import replacing
from verify.worker import Worker

# Of what a server says, in float64; about three arrays of this size are alive at once.
CHUNK_VALUES = 1 << 20
# Of logits, in float32: a few arrays of this size stay in a core's cache.
CACHED_VALUES = 1 << 17
MIN_LENGTH = 16
# What a server's logprobs leave for all other tokens is known no finer than float32.
LEAST_REST = 1e-7
MOST_LOGPROB = 1e-4


Rows = NDArray[np.float32]  # of logits
# Of the source's rows, an artifact's and the tokens that came: both surprisals, and the divergence.
Compare = Callable[[Rows, Rows, NDArray[np.int64]], tuple[NDArray[np.float64], ...]]


@dataclass(frozen=True)
class Windows:
    """Stretches of text as token ids, all of one length."""

    ids: tuple[tuple[int, ...], ...]
    kinds: tuple[str, ...] = ()  # of each, where there are several

    @property
    def length(self) -> int:
        """Return the number of tokens in each."""
        return len(self.ids[0])

    @property
    def scored(self) -> range:
        """Return the positions whose next token is scored; perplexity.cpp has the same `first` and end."""
        return range(self.length // 2, self.length - 1)

    @property
    def positions(self) -> int:
        """Count the scored positions of all windows."""
        return len(self.ids) * len(self.scored)

    def only(self, kept: Sequence[int]) -> "Windows":
        """Return some of them."""
        kinds = tuple(self.kinds[number] for number in kept) if self.kinds else ()
        return Windows(tuple(self.ids[number] for number in kept), kinds)

    def parts(self, count: int) -> tuple["Windows", ...]:
        """Return them in parts of so many."""
        starts = range(0, len(self.ids), count)
        return tuple(self.only(range(at, min(at + count, len(self.ids)))) for at in starts)

    def targets(self) -> NDArray[np.int64]:
        """Return the tokens that come next: (windows, scored)."""
        first = self.scored.start
        return np.array([window[first + 1 :] for window in self.ids], np.int64)


def cut(ids: Sequence[int], length: int, *, bos_id: int | None = None, most: int | None = None) -> Windows:
    """Cut a text's tokens into at most `most` windows; `bos_id` replaces each first token."""
    if length < MIN_LENGTH or len(ids) < length:
        raise Failure(
            f"the text to measure on has {len(ids)} tokens, but a window takes {max(length, MIN_LENGTH)}",
            "give a longer one with --text, or with verify.text in the recipe",
        )
    first = () if bos_id is None else (bos_id,)
    starts = range(0, len(ids) - length + 1, length)[:most]
    return Windows(tuple((*first, *ids[at + len(first) : at + length]) for at in starts))


def scored_logits(worker: Worker, windows: Windows) -> Iterator[Rows]:
    """Yield the logits of every scored position in order, in blocks of rows; or what is known of them."""
    for window in windows.ids:
        yield from next_logits(worker, window, windows.scored.start)


def next_logits(worker: Worker, ids: Sequence[int], first: int) -> Iterator[Rows]:
    """Yield the logits of the positions from `first` to the last but one, or what is known of them."""
    if worker.info.top_logprobs is not None:
        yield from _top_logprobs(worker, ids, first)
        return
    at = first
    with closing(worker.logits(ids, first)) as blocks:
        for block in blocks:
            wanted = block[: max(0, len(ids) - 1 - at)]
            at += len(block)
            if len(wanted):
                yield wanted
    if at != len(ids):
        raise Failure(f"{at - first} rows of logits came for {len(ids) - first} tokens")


def _top_logprobs(worker: Worker, ids: Sequence[int], first: int) -> Iterator[Rows]:
    rows = 0
    with closing(worker.top_logprobs(ids, first)) as blocks:
        for block in blocks:
            rows += len(block)
            yield block
    if rows != len(ids) - 1 - first:
        raise Failure(f"{rows} rows of logprobs came for {len(ids) - 1 - first} tokens")


@dataclass(frozen=True)
class Foretold:
    """How well a model foretells each token of a text from those before it."""

    surprisal: NDArray[np.float64]  # of the token that comes, in nats
    top: NDArray[np.int64]  # the likeliest token


def foretold(worker: Worker, ids: Sequence[int], first: int) -> Foretold:
    """Compute it for the tokens after position `first`."""
    targets, at = np.array(ids[first + 1 :], np.int64), 0
    surprisal, top = np.empty(len(targets)), np.empty(len(targets), np.int64)
    (room,) = room_for(1, worker.info.vocab_size or 1)
    for block in next_logits(worker, ids, first):
        for part in _parts(block, CACHED_VALUES):
            rows, wanted = slice(at, at + len(part)), targets[at : at + len(part)]
            if worker.info.top_logprobs is None:
                surprisal[rows] = odds(part, room).surprisal(wanted)
            else:
                surprisal[rows] = -_checked(part)[np.arange(len(part)), wanted]
            top[rows] = part.argmax(axis=1)
            at += len(part)
    return Foretold(surprisal, top)


def _parts(block: Rows, most_values: int = CHUNK_VALUES) -> Iterator[Rows]:
    """Cut a block into parts whose odds fit in little memory."""
    size = max(1, most_values // block.shape[1])
    return (block[start : start + size] for start in range(0, len(block), size))


class Odds(NamedTuple):
    """The odds of each next token, not yet divided by their sum; a likeliest one has 1."""

    logits: Rows  # less the largest of each row
    weights: Rows
    log_totals: NDArray[np.float64]  # the logarithm of each row's sum

    def surprisal(self, targets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return how little each row expected its token, in nats."""
        found: NDArray[np.float64] = self.log_totals - self.logits[np.arange(len(targets)), targets]
        return found

    def divergence(self, other: "Odds") -> NDArray[np.float64]:
        """Compute KL(these ‖ others) of each row, in nats; what the other has is used up."""
        apart = np.subtract(self.logits, other.logits, out=other.logits)
        total = np.multiply(apart, self.weights, out=apart).sum(axis=1, dtype=np.float64)
        found = total / np.exp(self.log_totals) + other.log_totals - self.log_totals
        return np.asarray(np.maximum(found, 0.0, out=found))  # rounding can leave a hair below zero


def room_for(models: int, vocab_size: int) -> Rows:
    """Make memory for the odds of some rows, to be used again: new pages take longer than the arithmetic."""
    return np.empty((models, 2, max(1, CACHED_VALUES // vocab_size), vocab_size), np.float32)


def odds(logits: Rows, room: Rows) -> Odds:
    """Compute odds in float32, several at a time, and their sums in float64."""
    highest = logits.max(axis=1, keepdims=True)
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.isfinite(highest - logits.min(axis=1, keepdims=True)).all():
            raise Failure("its logits have values that are not finite numbers")
    shifted = np.subtract(logits, highest, out=room[0, : len(logits)])
    weights = np.exp(shifted, out=room[1, : len(logits)])
    return Odds(shifted, weights, np.log(weights.sum(axis=1, dtype=np.float64)))


def log_probabilities(logits: Rows) -> NDArray[np.float64]:
    """Return the logarithms of the softmax, stable for any finite logits."""
    if not np.isfinite(logits).all():
        raise Failure("its logits have values that are not finite numbers")
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    values -= np.log(np.exp(values).sum(axis=1, keepdims=True))
    return values


def kl(wanted: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute KL(wanted ‖ got) of each row, in nats.

    Where `got` has -inf, a server did not say: those tokens count as one, with what the others leave. So the
    result is never more than the divergence over all tokens.
    """
    known = np.isfinite(got)
    share = np.exp(wanted)
    found: NDArray[np.float64] = np.einsum("ij,ij->i", share, np.where(known, wanted - got, 0.0))
    if not known.all():
        found += _rest(known, share, got)
    return np.maximum(found, 0.0, out=found)  # rounding can leave a hair below zero, which no divergence is


def _rest(
    known: NDArray[np.bool_], share: NDArray[np.float64], got: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what the other tokens, taken as one, add to the divergence."""
    rest = np.where(known, 0.0, share).sum(axis=1)
    left = np.maximum(1.0 - np.exp(got).sum(axis=1), LEAST_REST)
    added: NDArray[np.float64] = rest * (np.log(np.maximum(rest, LEAST_REST)) - np.log(left))
    return added


@dataclass(frozen=True)
class Reference:
    """A file with the source's logits of the scored positions: float32, row after row."""

    path: Path
    windows: Windows
    vocab_size: int

    @property
    def size_bytes(self) -> int:
        """Return the size that the whole file has."""
        return self.windows.positions * self.vocab_size * 4

    def read(self, file: BinaryIO, count: int) -> Rows:
        """Read the next rows."""
        rows = np.fromfile(file, "<f4", count * self.vocab_size)
        if rows.size != count * self.vocab_size:
            raise Failure(f"{self.path}: ends too early", "remove it; it will be written again")
        return rows.reshape(count, self.vocab_size)


def save_reference(worker: Worker, windows: Windows, path: Path) -> Reference:
    """Write the source's logits to a file, or take the file of an earlier run."""
    reference = Reference(path, windows, worker.info.vocab_size or 0)
    if _is_sound(path, reference.size_bytes):
        os.utime(path)  # the least recently used is removed first
        return reference
    hasher = hashlib.sha256()
    with replacing(path) as file:
        for block in scored_logits(worker, windows):
            rows = np.ascontiguousarray(block, "<f4")
            rows.tofile(file)
            hasher.update(rows.tobytes())
        if file.tell() != reference.size_bytes:
            raise Failure("the source's logits do not have the size of its vocabulary")
    with replacing(_digest_of(path)) as file:
        file.write(hasher.hexdigest().encode())
    return reference


def _digest_of(path: Path) -> Path:
    """Return the file with the digest of another, which is written after it."""
    return path.with_name(f"{path.name}.sha256")


def _is_sound(path: Path, size_bytes: int) -> bool:
    """Say whether the file of an earlier run is here with the bytes that it was written with."""
    try:
        if path.stat().st_size != size_bytes:
            return False
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return _digest_of(path).read_text("ascii") == found
    except (OSError, ValueError):
        return False


@dataclass(frozen=True)
class Comparison:
    """The source and an artifact compared at each position: (windows, scored) each."""

    source_surprisal: NDArray[np.float64]
    surprisal: NDArray[np.float64]
    divergence: NDArray[np.float64]  # KL(source ‖ artifact), in nats
    is_same_top: NDArray[np.bool_]

    def only(self, windows: Any) -> "Comparison":
        """Return some of the windows, or some of them again."""
        return Comparison(*(values[windows] for values in vars(self).values()))

    def then(self, other: "Comparison") -> "Comparison":
        """Return these windows, and those of another."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Comparison(*(np.concatenate(pair) for pair in pairs))


def compare_logits(worker: Worker, reference: Reference) -> Comparison:
    """Compute the artifact's logits over the reference's windows, and compare them as they come."""
    windows = reference.windows
    if worker.info.vocab_size != reference.vocab_size:
        raise Failure(
            f"it has {worker.info.vocab_size} tokens and the source {reference.vocab_size}: "
            "their logits cannot be compared"
        )
    targets, at = windows.targets().ravel(), 0
    shape = (len(windows.ids), len(windows.scored))
    figures, same = np.empty((3, windows.positions)), np.empty(windows.positions, np.bool_)
    compare: Compare = partial(compare_rows, room=room_for(2, reference.vocab_size))
    size = CACHED_VALUES
    if worker.info.top_logprobs is not None:
        compare, size = _compare_known, CHUNK_VALUES
    with reference.path.open("rb", buffering=0) as file:
        for block in scored_logits(worker, windows):
            for part in _parts(block, size):
                rows = slice(at, at + len(part))
                true = reference.read(file, len(part))
                same[rows] = true.argmax(axis=1) == part.argmax(axis=1)
                figures[:, rows] = compare(true, part, targets[rows])
                at += len(part)
    source_surprisal, surprisal, divergence = figures.reshape(3, *shape)
    return Comparison(source_surprisal, surprisal, divergence, same.reshape(shape))


def compare_rows(
    true: Rows, part: Rows, targets: NDArray[np.int64], room: Rows
) -> tuple[NDArray[np.float64], ...]:
    """Compute both surprisals and the divergence of rows of logits."""
    wanted, got = odds(true, room[0]), odds(part, room[1])
    return wanted.surprisal(targets), got.surprisal(targets), wanted.divergence(got)


def _compare_known(true: Rows, part: Rows, targets: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Compute them where a server gives log probabilities, as far as it knows them."""
    wanted, got, index = log_probabilities(true), _checked(part), np.arange(len(part))
    return -wanted[index, targets], -got[index, targets], kl(wanted, got)


def _checked(part: Rows) -> NDArray[np.float64]:
    if np.isnan(part).any() or (part > MOST_LOGPROB).any():
        raise Failure("its logprobs have values that are none")
    return part.astype(np.float64)

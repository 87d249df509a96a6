"""Repetitions summed up: medians with their quartiles, and the highest peaks."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - the report reads the annotations
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from convert.child import ChildFailure, Fault, FaultKind, Peaks
from verify.circumstances import Circumstances  # noqa: TC001 - the report reads the annotations
from verify.runtimes import is_address

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.runtimes import Piece, Request
    from verify.worker import Worker

# Quartiles that are further apart, as a share of the median, leave small differences undecided.
WIDEST = 0.2
# So many times what a runtime says, and so much more, may pass here: a busy machine wakes us late.
FALSEST = 2.0
SLACK_S = 1.0


@dataclass(frozen=True)
class Spread:
    """The median of some repetitions, and the quartiles around it."""

    median: float
    low: float
    high: float
    count: int

    @property
    def width(self) -> float:
        """Return how far the quartiles are apart, as a share of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0

    @property
    def is_wide(self) -> bool:
        """Return whether the repetitions differ too much for a fine comparison."""
        return self.width > WIDEST


@dataclass(frozen=True)
class Speed:
    """How fast an artifact was."""

    load_s: Spread
    ttft_s: Spread
    prefill_tok_s: Spread | None  # a server does not report when it has read the prompt, nor its length
    decode_tok_s: Spread | None  # none where no answer had two tokens
    inter_token_p50_s: float | None
    inter_token_p95_s: float | None
    throughput_tok_s: Mapping[int, float]  # by number of concurrent requests
    prompt_tokens: int | None
    answer_tokens: int
    circumstances: Circumstances | None = None  # older reports have none

    @property
    def is_busy(self) -> bool:
        """Return whether other programs took more than half of the cores meanwhile."""
        return self.circumstances is not None and self.circumstances.is_busy

    @property
    def cautions(self) -> tuple[str, ...]:
        """Say why these figures are to be read with caution; empty where nothing disturbed them."""
        found = []
        around = self.circumstances
        if around and around.is_busy:
            found.append(f"other programs kept {around.others_cores:.1f} of {around.cores} cores busy")
        for name, each in (("prefill", self.prefill_tok_s), ("decoding", self.decode_tok_s)):
            if each and each.is_wide:
                found.append(f"the middle half of {name} speeds spans {each.width:.0%} of their median")
        return tuple(found)


@dataclass(frozen=True)
class Memory:
    """How much memory an artifact took: one request at a time, in a context of the launch's length."""

    peak_rss_bytes: int
    peak_anon_bytes: int
    kv_bytes_per_token: float | None  # measured: the cache's growth between two answers
    kv_bytes_per_token_computed: int | None


@dataclass(frozen=True)
class Measured:
    """One artifact's speed and memory."""

    speed: Speed
    memory: Memory | None  # None for a server: its process is elsewhere


@dataclass
class Samples:
    """The measurements of one artifact, repetition by repetition."""

    load_s: list[float] = field(default_factory=list)
    ttft_s: list[float] = field(default_factory=list)
    prefill_tok_s: list[float] = field(default_factory=list)
    decode_tok_s: list[float] = field(default_factory=list)
    gaps_s: list[float] = field(default_factory=list)
    said_s: list[float] = field(default_factory=list)  # of whole answers, by the runtime
    passed_s: list[float] = field(default_factory=list)  # meanwhile, by our clock
    throughput: dict[int, float] = field(default_factory=dict)
    cache: dict[int, int] = field(default_factory=dict)  # bytes by tokens
    peaks: Peaks | None = None
    kv_computed: int | None = None
    prompt_tokens: int | None = None
    answer_tokens: int = 0

    def take(self, request: Request, pieces: Sequence[Piece], passed_s: float | None = None) -> None:
        """Note the times of one answer, and how long it took by our own clock."""
        times = [piece.t_s for piece in pieces if piece.token is not None or piece.text]
        if not times:
            raise ChildFailure(Fault(FaultKind.REFUSED, "it gave an empty answer"))
        count = pieces[-1].tokens or len(times)
        if count > request.max_tokens:
            why = f"it says that it wrote {count} tokens, and was asked for {request.max_tokens}"
            raise ChildFailure(Fault(FaultKind.REFUSED, why))
        if passed_s is not None:
            self.said_s.append(times[-1])
            self.passed_s.append(passed_s)
        self.answer_tokens = max(self.answer_tokens, count)
        self.ttft_s.append(times[0])
        if request.ids is not None:
            self.prompt_tokens = len(request.ids)
            self.prefill_tok_s.append(len(request.ids) / times[0])
        if count > 1 and times[-1] > times[0]:
            self.decode_tok_s.append((count - 1) / (times[-1] - times[0]))
        self.gaps_s += [after - before for before, after in pairwise(times)]

    def doubt(self) -> Fault | None:
        """Return why its times are not believed: more often than not, far more passed by our own clock."""
        if not self.said_s:
            return None
        said, passed = percentile(self.said_s, 50), percentile(self.passed_s, 50)
        if passed <= FALSEST * said + SLACK_S:
            return None
        why = f"it says that an answer takes {said:.2f} s, and {passed:.2f} s passed here"
        return Fault(FaultKind.REFUSED, why)

    def note_cache(self, worker: Worker, request: Request, pieces: Sequence[Piece]) -> None:
        """Note the cache's size; the last token of an answer was never read."""
        if "cache" in worker.info.can and request.ids is not None:
            self.cache[len(request.ids) + len(pieces) - 1] = worker.cache_bytes()

    def note_peaks(self, worker: Worker) -> None:
        """Keep the highest of all openings; the memory of a server that is elsewhere is, too."""
        if is_address(worker.launch.path):
            return
        seen, known = worker.peaks(), self.peaks or Peaks(0, 0)
        self.peaks = Peaks(max(seen.rss_bytes, known.rss_bytes), max(seen.anon_bytes, known.anon_bytes))

    def figures(self, circumstances: Circumstances | None = None) -> Measured:
        """Sum up the repetitions."""
        speed = Speed(
            load_s=spread(self.load_s),
            ttft_s=spread(self.ttft_s),
            prefill_tok_s=spread(self.prefill_tok_s) if self.prefill_tok_s else None,
            decode_tok_s=spread(self.decode_tok_s) if self.decode_tok_s else None,
            inter_token_p50_s=percentile(self.gaps_s, 50) if self.gaps_s else None,
            inter_token_p95_s=percentile(self.gaps_s, 95) if self.gaps_s else None,
            throughput_tok_s=dict(self.throughput),
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            circumstances=circumstances,
        )
        if self.peaks is None:
            return Measured(speed, None)
        memory = Memory(self.peaks.rss_bytes, self.peaks.anon_bytes, self._growth(), self.kv_computed)
        return Measured(speed, memory)

    def _growth(self) -> float | None:
        if len(self.cache) < 2:
            return None
        fewest, most = min(self.cache), max(self.cache)
        return (self.cache[most] - self.cache[fewest]) / (most - fewest)


def spread(values: Sequence[float]) -> Spread:
    """Return the median and quartiles of repetitions."""
    low, median, high = (percentile(values, rank) for rank in (25, 50, 75))
    return Spread(median, low, high, len(values))


def percentile(values: Sequence[float], rank: float) -> float:
    """Interpolate between the two values around the rank."""
    return float(np.percentile(values, rank))

"""How much an artifact knows less than its source: perplexity, KL divergence, top-1 agreement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verify.logprobs import pair, surprise

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from verify.logprobs import Pairing, Reference, Windows
    from verify.worker import Worker

RESAMPLES = 1000
SEED = 20_261_121
# Beyond it exp overflows; what is so wrong need not be told apart.
MAX_EXPONENT = 700.0


@dataclass(frozen=True)
class Interval:
    """Where a figure lies with 95 % confidence, were other text of the same kind taken."""

    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """An artifact's figures against its source's, on the same tokens."""

    ppl: float
    ppl_source: float
    ppl_ratio: float
    kl_mean: float  # nats
    kl_p99: float
    top1: float  # the share of positions where both hold the same token for the most likely
    positions: int  # scored
    window: int  # tokens in each
    intervals: dict[str, Interval]  # by the figure's name; none where there is but one window


def perplexity(worker: Worker, windows: Windows) -> float:
    """Perplexity as llama-perplexity defines it."""
    return _exp(surprise(worker, windows).mean())


def quality(worker: Worker, reference: Reference) -> Quality:
    """Compare an open artifact with its source."""
    return sum_up(pair(worker, reference), reference.windows.length)


def sum_up(pairing: Pairing, window: int) -> Quality:
    """From positions to figures."""
    return Quality(
        **{name: figure(pairing) for name, figure in FIGURES.items()},
        ppl_source=_exp(pairing.source_surprise.mean()),
        positions=pairing.divergence.size,
        window=window,
        intervals=intervals(pairing),
    )


FIGURES: dict[str, Callable[[Pairing], float]] = {
    "ppl": lambda pairing: _exp(pairing.surprise.mean()),
    "ppl_ratio": lambda pairing: _exp((pairing.surprise - pairing.source_surprise).mean()),
    "kl_mean": lambda pairing: float(pairing.divergence.mean()),
    "kl_p99": lambda pairing: float(np.quantile(pairing.divergence, 0.99)),
    "top1": lambda pairing: float(pairing.is_same_top.mean()),
}


def intervals(pairing: Pairing) -> dict[str, Interval]:
    """Draw whole windows anew, many times: neighbouring tokens err together, so they are drawn together."""
    count = len(pairing.divergence)
    if count < 2:
        return {}
    random = np.random.default_rng(SEED)
    drawn: dict[str, list[float]] = {name: [] for name in FIGURES}
    for _ in range(RESAMPLES):
        again = _drawn(pairing, random.integers(0, count, count))
        for name, figure in FIGURES.items():
            drawn[name].append(figure(again))
    return {
        name: Interval(*map(float, np.quantile(values, (0.025, 0.975)))) for name, values in drawn.items()
    }


def _exp(value: float) -> float:
    return math.exp(min(float(value), MAX_EXPONENT))


def _drawn(pairing: Pairing, windows: NDArray[np.int64]) -> Pairing:
    return type(pairing)(*(values[windows] for values in vars(pairing).values()))

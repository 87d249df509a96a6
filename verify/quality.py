"""An artifact's quality next to its source's: perplexity, KL divergence, top-1 agreement."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verify.logprobs import Comparison, Reference, compare_logits
from verify.worker import Worker

RESAMPLES = 1000
SEED = 20_261_121
# Beyond it exp overflows; models that are so wrong need no finer distinction.
MAX_EXPONENT = 700.0


@dataclass(frozen=True)
class Interval:
    """A figure's 95 % confidence interval over texts of the same kind."""

    low: float
    high: float


@dataclass(frozen=True)
class Quality:
    """An artifact's figures against its source's, on the same tokens."""

    ppl: float  # as llama-perplexity defines it
    ppl_source: float
    ppl_ratio: float
    kl_mean: float  # nats
    kl_p99: float
    top1: float  # the share of positions where both have the same most likely token
    positions: int  # scored
    window: int  # tokens in each
    intervals: dict[str, Interval]  # by the figure's name; empty where there is only one window
    kl_tokens: int | None = None  # KL over so many likeliest tokens and the rest as one: at least so much
    # As llama-perplexity names them; older reports have none.
    kl_median: float | None = None
    kl_p90: float | None = None
    kl_p95: float | None = None
    kl_p999: float | None = None
    kl_max: float | None = None
    dp_mean: float | None = None  # the change of the right token's probability
    dp_rms: float | None = None


def quality(
    worker: Worker,
    reference: Reference,
    compare: Callable[[Worker, Reference], Comparison] = compare_logits,
) -> Quality:
    """Compare an open artifact with its source."""
    found = summarize(compare(worker, reference), reference.windows.length)
    top = worker.info.top_logprobs
    return found if top is None or top >= reference.vocab_size else replace(found, kl_tokens=top)


def summarize(comparison: Comparison, window: int) -> Quality:
    """Compute the figures from the positions."""
    figures: dict[str, Any] = {name: figure(comparison) for name, figure in FIGURES.items()}
    return Quality(
        **figures,
        ppl_source=_exp(comparison.source_surprisal.mean()),
        positions=comparison.divergence.size,
        window=window,
        intervals=intervals(comparison),
    )


FIGURES: dict[str, Callable[[Comparison], float]] = {
    "ppl": lambda comparison: _exp(comparison.surprisal.mean()),
    "ppl_ratio": lambda comparison: _exp((comparison.surprisal - comparison.source_surprisal).mean()),
    "kl_mean": lambda comparison: float(comparison.divergence.mean()),
    "kl_p99": lambda comparison: _quantile(comparison, 0.99),
    "top1": lambda comparison: float(comparison.is_same_top.mean()),
    "kl_median": lambda comparison: _quantile(comparison, 0.5),
    "kl_p90": lambda comparison: _quantile(comparison, 0.9),
    "kl_p95": lambda comparison: _quantile(comparison, 0.95),
    "kl_p999": lambda comparison: _quantile(comparison, 0.999),
    "kl_max": lambda comparison: float(comparison.divergence.max()),
    "dp_mean": lambda comparison: float(_change(comparison).mean()),
    "dp_rms": lambda comparison: float(np.sqrt(np.square(_change(comparison)).mean())),
}


def intervals(comparison: Comparison) -> dict[str, Interval]:
    """Bootstrap over whole windows: adjacent tokens err together, so they are drawn together."""
    count = len(comparison.divergence)
    if count < 2:
        return {}
    random = np.random.default_rng(SEED)
    drawn = (_drawn(comparison, random.integers(0, count, count)) for _ in range(RESAMPLES))
    rows = [[figure(each) for figure in FIGURES.values()] for each in drawn]
    bounds = np.quantile(rows, (0.025, 0.975), axis=0).T.tolist()
    return {name: Interval(*pair) for name, pair in zip(FIGURES, bounds, strict=True)}


def _quantile(comparison: Comparison, rank: float) -> float:
    return float(np.quantile(comparison.divergence, rank))


def _change(comparison: Comparison) -> NDArray[np.float64]:
    """Return by how much the artifact finds the right token likelier than the source does."""
    found: NDArray[np.float64] = np.exp(-comparison.surprisal) - np.exp(-comparison.source_surprisal)
    return found


def _exp(value: float) -> float:
    return math.exp(min(float(value), MAX_EXPONENT))


def _drawn(comparison: Comparison, windows: NDArray[np.int64]) -> Comparison:
    return type(comparison)(*(values[windows] for values in vars(comparison).values()))

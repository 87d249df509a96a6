"""An artifact's quality next to its source's: perplexity, KL divergence, top-1 agreement."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from verify.logprobs import Comparison, Reference, Windows, compare_logits
from verify.runtimes import Info
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
class KindQuality:
    """The same for one kind of text."""

    kl_mean: float
    top1: float
    ppl_ratio: float
    positions: int
    kl_interval: Interval | None  # None where there is only one window


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
    kinds: Mapping[str, KindQuality] = field(default_factory=dict)


def quality(worker: Worker, reference: Reference) -> Quality:
    """Compare an open artifact with its source."""
    return quality_of(compare_logits(worker, reference), reference.windows, worker.info)


def quality_of(comparison: Comparison, windows: Windows, info: Info) -> Quality:
    """Sum up a comparison; `info` says of how many tokens the artifact gives odds."""
    top, kinds = info.top_logprobs, np.array(windows.kinds)
    return replace(
        summarize(comparison, windows.length),
        kl_tokens=None if top is None or top >= (info.vocab_size or 0) else top,
        kinds={kind: _of_kind(comparison.only(kinds == kind)) for kind in dict.fromkeys(windows.kinds)},
    )


def _of_kind(comparison: Comparison) -> KindQuality:
    names = ("kl_mean", "top1", "ppl_ratio")
    found = {name: FIGURES[name](comparison) for name in names}
    within = intervals(comparison, names).get("kl_mean")
    return KindQuality(**found, positions=comparison.divergence.size, kl_interval=within)


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


def intervals(comparison: Comparison, names: Iterable[str] | None = None) -> dict[str, Interval]:
    """Bootstrap over whole windows: adjacent tokens err together, so they are drawn together."""
    count = len(comparison.divergence)
    if count < 2:
        return {}
    random = np.random.default_rng(SEED)
    wanted = list(FIGURES if names is None else names)
    drawn = (comparison.only(random.integers(0, count, count)) for _ in range(RESAMPLES))
    rows = [[FIGURES[name](each) for name in wanted] for each in drawn]
    bounds = np.quantile(rows, (0.025, 0.975), axis=0).T.tolist()
    return {name: Interval(*pair) for name, pair in zip(wanted, bounds, strict=True)}


def _quantile(comparison: Comparison, rank: float) -> float:
    return float(np.quantile(comparison.divergence, rank))


def _change(comparison: Comparison) -> NDArray[np.float64]:
    """Return by how much the artifact finds the right token likelier than the source does."""
    found: NDArray[np.float64] = np.exp(-comparison.surprisal) - np.exp(-comparison.source_surprisal)
    return found


def _exp(value: float) -> float:
    return math.exp(min(float(value), MAX_EXPONENT))

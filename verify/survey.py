"""Before anything is asked: a short measurement, and what fits into the time by it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from math import inf
from typing import TYPE_CHECKING, Protocol, TypeAlias

from convert.size import duration
from verify.budget import Fitted, Sample, asking_s, fit, full_s

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verify.forecast import Forecast
    from verify.pilot import Paced, Rates
    from verify.task import Plan
    from verify.worker import Worker

# Each artifact's own measurement; one without any is taken to be as fast as the source.
Others: TypeAlias = "Mapping[str, Other]"
NAME = "source"
# Where everything takes less by the source's measurement alone, no artifact is opened for it.
QUICK_S = 600.0
# An artifact may be slower than its source.
SLOWER = 2.0
# Without a budget of their own, people wait so long; or longer, for so many dialogues and windows.
PATIENCE_S = 300.0
SAMPLE = Sample(dialogues=2, windows=2)


class Other(Protocol):
    """An artifact that can be measured."""

    @property
    def server(self) -> str | None:
        """Name the server that is started for it, which takes longer than a model takes to open."""

    def measure(self) -> Rates | None:
        """Return how fast it is; None where that cannot be measured."""


def full_asking_s(model: Paced, plan: Plan, windows: int) -> float:
    """Compute how long an open model takes for all odds and dialogues."""
    return asking_s(plan, windows, model.rates, _counter(model.worker))


def settle(model: Paced, plan: Plan, windows: int, others: Others, forecast: Forecast) -> Fitted:
    """Choose what is asked of every model in the plan's time."""
    budget_s = inf if plan.budget_s is None else plan.budget_s
    rates, count = replace(model.rates, opens_once=True), _counter(model.worker)
    alone_s = full_s(plan, windows, rates, count)
    is_quick = alone_s * (1 + SLOWER * len(others)) <= min(QUICK_S, budget_s)
    all_rates, closed = {NAME: rates}, replace(rates, waits=False, opens_once=False)
    served: dict[str, Rates] = {}
    for name, other in others.items():
        if other.server in served:  # it starts alike for all
            all_rates[name] = served[other.server]
            continue
        found = None if is_quick and not other.server else other.measure()
        all_rates[name] = found or closed
        if found and other.server:
            served[other.server] = replace(found, waits=False)
    elapsed_s = forecast.elapsed_s()
    if plan.is_sample:
        fitted = fit(plan, windows, all_rates, count, PATIENCE_S - elapsed_s)
        if SAMPLE.is_in(fitted.scope):
            return fitted
    most = SAMPLE if plan.is_sample else None
    return fit(plan, windows, all_rates, count, budget_s - elapsed_s, most=most)


def _counter(worker: Worker) -> Callable[[str], int]:
    return cache(lambda text: len(worker.tokenize(text)))


def wanted(plan: Plan) -> Plan:
    """Leave out what is not to be measured."""
    if plan.measures == "speed":
        return replace(plan, packs=())
    if plan.measures == "quality":
        return replace(plan, speed=replace(plan.speed, openings=0, concurrency=()))
    return plan


def announce(fitted: Fitted, forecast: Forecast) -> None:
    """Say what is asked, and how long that takes."""
    scope = fitted.scope
    if scope.expected_s is None:
        return
    asked = ", ".join(f"{words} {what}" for what, words in scope.words().items())
    forecast.doing("verification", f"{asked}; about {duration(round(scope.expected_s))}")

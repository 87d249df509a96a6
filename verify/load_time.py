"""The source as libraries quantize it when they open it: rows next to its own, which no gate judges."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from convert.recipe import Gates
from verify.examination import Examination
from verify.report import QuantizedSource
from verify.runtimes._load_time import WAYS
from verify.task import Subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verify.baseline import Baseline, Source
    from verify.forecast import Forecast
    from verify.pilot import Rates
    from verify.task import Plan

RUNTIME = "transformers"
# Those without which figures are missing.
STEPS = ("opens", "quality", "speed")


class LoadTime(Examination):
    """The examination of one way to quantize the source: its odds, speed and memory."""

    def __init__(self, way: str, source: Source, plan: Plan, watch: Forecast) -> None:
        self._way = way
        options = {"tokenizer": str(source.tokenizer.absolute()), "quantize": way}
        if source.adapter:
            options["adapter"] = str(source.adapter.absolute())
        # No target has brackets in its name.
        subject = Subject(f"({way})", source.folder.absolute(), Gates(), runtime=RUNTIME, options=options)
        super().__init__(subject, replace(plan, packs=(), tasks=None, load=None), watch)

    def measure(self) -> Rates | None:
        """Measure it; it is not asked any dialogue."""
        found = super().measure()
        return found and replace(found, answers=False)

    def question(self, baseline: Baseline) -> None:
        """Open it, and compare its odds with the source's."""
        super().question(replace(baseline, plan=replace(baseline.plan, packs=())))

    def row(self) -> QuantizedSource:
        """Return its figures, and why there are none."""
        found = self.result()
        failures = {check.name: check.why for check in found.failures}
        return QuantizedSource(
            name=self._way,
            why=next((failures[step] for step in STEPS if step in failures), None),
            opened=found.opened,
            quality=found.quality,
            speed=found.speed,
            memory=found.memory,
        )


def library_of(way: str) -> str:
    """Name the package that quantizes so."""
    return WAYS[way][0]


def quantized(source: Source, plan: Plan, watch: Forecast) -> Sequence[LoadTime]:
    """List the ways that are asked for."""
    return [LoadTime(way, source, plan, watch) for way in plan.baselines]

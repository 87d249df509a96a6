"""What a verification of a model of the users' size takes, step by step, and how it ranks three GGUFs.

python -m tests.bench.verdict --model FOLDER [--budget none auto 2min]  a real model, asked all and less
python -m tests.bench.verdict --shape half whole                       0.5 B and 1.8 B, with random weights

Q8_0, Q4_K_M, Q2_K and ONNX int4 are built once, in --work. Each verification begins with nothing that an
earlier one has kept. It exits 1 where a limit of LIMITS is passed, or budgets rank the GGUFs otherwise.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from convert import convert_recipe, load_recipe, verify_recipe
from convert.recipe.span import AUTO, NONE
from tests.bench.checkpoint import ROOT, make_checkpoint
from tests.bench.estimate import SHAPES
from verify.forecast import Forecast

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.recipe import Recipe
    from verify.report import ArtifactResult, Report, Scenarios

RANKED = ("Q8_0", "Q4_K_M", "Q2_K")
TARGETS = {"gguf": {"quants": list(RANKED)}, "onnx": {"precision": "int4"}}
SOURCE = "source"
# Minutes for all of it, and for the source alone: of a model, with a budget; None: of a given model.
LIMITS: Mapping[tuple[str | None, str], tuple[float, float | None]] = {
    (None, NONE): (12, None),
    (None, "2min"): (3, None),
    ("half", AUTO): (5, None),
    ("whole", AUTO): (15, 4),
}


@dataclass
class Steps:
    """A watch that adds up how long each step of each model takes, and keeps what was expected of it."""

    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    expected: Mapping[tuple[str, str], float] = field(default_factory=dict)
    _now: tuple[str, str] | None = None
    _since_s: float = 0.0

    def doing(self, name: str, what: str) -> None:
        """End the step before, and begin this one."""
        step = what.partition(", about ")[0]
        self._turn((name, "dialogues" if step.startswith("dialogue ") else step))

    def found(self, _: ArtifactResult) -> None:
        """Go on: what is found within a step does not end it."""

    def end(self) -> None:
        """End the last step."""
        self._turn(None)

    def of_source(self) -> float:
        """Add up what the reference took: the source's odds and answers, its copy included."""
        return sum(took for (name, _), took in self.seconds.items() if name == SOURCE)

    def _turn(self, following: tuple[str, str] | None) -> None:
        now_s = time.monotonic()
        if self._now:
            took_s = now_s - self._since_s
            self.seconds[self._now] = self.seconds.get(self._now, 0.0) + took_s
            if following != self._now:
                print(f"    {self.seconds[self._now]:7.1f} s  {': '.join(self._now)}", flush=True)
        self._now, self._since_s = following, now_s


def watch_expectations(steps: Steps) -> None:
    """Keep what the short measurement foresees, of which a watch hears only the sum."""
    foresee = Forecast.expect

    def expect(forecast: Forecast, seconds: Mapping[tuple[str, str], float]) -> None:
        steps.expected = dict(seconds)
        foresee(forecast, seconds)

    Forecast.expect = expect  # type: ignore[method-assign, assignment]


def build(work: Path, model: Path) -> Recipe:
    """Convert the model, unless its artifacts are here."""
    path = work / "verdict.yaml"
    path.write_text(yaml.safe_dump({"model": str(model.absolute()), "targets": TARGETS}), "utf-8")
    recipe = load_recipe(path)
    convert_recipe(recipe, out=work / "artifacts", offline=True)
    return recipe


def judge(recipe: Recipe, work: Path, limit: str) -> tuple[Report, Steps, float]:
    """Verify with nothing kept; return the report, the steps, and the seconds that it took."""
    for kept in (work / "cache" / "modelwright" / "odds", work / "report"):
        shutil.rmtree(kept, ignore_errors=True)
    steps, began_s = Steps(), time.monotonic()
    watch_expectations(steps)
    report = verify_recipe(
        recipe,
        out=work / "artifacts",
        report_folder=work / "report",
        budget=limit,
        offline=True,
        watching=lambda _: nullcontext(steps),
    )
    steps.end()
    return report, steps, time.monotonic() - began_s


def ranking(report: Report) -> list[str]:
    """List the GGUFs from the least divergence to the most."""
    kl = {each.name: each.quality.kl_mean for each in report.artifacts if each.quality}
    return sorted((name for quant in RANKED if (name := f"gguf-{quant}") in kl), key=kl.__getitem__)


def show(report: Report, steps: Steps, took_s: float) -> None:
    """Print the steps, what was expected of them, and the figures."""
    scope, copy = report.scope, report.source.answered_by
    assert scope
    print(f"  took {took_s:.0f} s, the source {steps.of_source():.0f} s; load {os.getloadavg()[0]:.1f}")
    if scope.expected_s:
        error = scope.expected_s / (took_s - before_s(steps)) - 1
        print(f"  expected {scope.expected_s:.0f} s after the short measurement: {error:+.0%}")
    print(f"  asked: {', '.join(f'{words} {what}' for what, words in scope.words().items())}")
    print(f"  copy: {copy.why if copy else 'none tried'}")
    for (name, step), seconds in steps.seconds.items():
        if seconds >= 1:
            print(f"    {seconds:7.1f} s  {name}: {step}")
    for (name, step), seconds in steps.expected.items():
        print(f"    {seconds:7.1f} s  expected of {name}: {step}")
    asked = {SOURCE: report.source.scenarios, **{each.name: each.scenarios for each in report.artifacts}}
    for name, found in asked.items():
        if found:
            print(f"    {name}: {written(found)} tokens written, {found.smoke:.0%} of dialogues as asked")
    for each in report.artifacts:
        if each.quality:
            print(f"    {each.name}: KL {each.quality.kl_mean:.4f}, top-1 {each.quality.top1:.1%}")
    print(f"  by KL: {' < '.join(ranking(report))}", flush=True)


def before_s(steps: Steps) -> float:
    """Add up what was over when the rest was foreseen."""
    early = {"files", "tokens and template", "short measurement", "making a copy that answers faster"}
    return sum(took for (name, step), took in steps.seconds.items() if step in early and name)


def written(found: Scenarios) -> int:
    """Count the tokens of all answers."""
    return sum(each.tokens or 0 for transcript in found.transcripts for each in transcript.exchanges)


def main() -> None:
    """Build, verify with each budget, print, and hold the times to their limits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, help="a real model's folder")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=[], help="of random weights")
    parser.add_argument(
        "--budget", nargs="+", default=[], help=f"{AUTO} and, for a model, {NONE} and 2min by default"
    )
    parser.add_argument("--work", type=Path, default=ROOT / "bench" / "verdict", help="where artifacts go")
    asked = parser.parse_args()
    if not asked.model and not asked.shape:
        parser.error("name a model with --model, or sizes with --shape")
    wrong: list[str] = []
    for shape in [*([None] if asked.model else []), *asked.shape]:
        work = (asked.work / (shape or asked.model.resolve().name)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        os.environ["XDG_CACHE_HOME"] = str(work / "cache")
        if shape:
            make_checkpoint(work / "model", SHAPES[shape])
        recipe = build(work, work / "model" if shape else asked.model)
        orders: set[tuple[str, ...]] = set()
        for limit in asked.budget or ([AUTO] if shape else [NONE, AUTO, "2min"]):
            print(f"{shape or asked.model.name}, --budget {limit}", flush=True)
            report, steps, took_s = judge(recipe, work, limit)
            show(report, steps, took_s)
            orders.add(tuple(ranking(report)))
            most, most_of_source = LIMITS.get((shape, limit), (None, None))
            for what, seconds, minutes in (
                ("all", took_s, most),
                ("the source", steps.of_source(), most_of_source),
            ):
                if minutes and seconds > 60 * minutes:
                    wrong.append(f"{shape or asked.model.name}, {limit}: {what} took {seconds / 60:.1f} min")
        if len(orders) > 1 and not shape:
            wrong.append("the budgets rank the GGUFs otherwise")
    print(*wrong, sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()

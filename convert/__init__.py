"""From a recipe and a checkpoint to artifacts, verified and published: the public API.

Each function takes a recipe through its stages, as the command of that name does, and raises `Failure`: what
is wrong, and what to try next. All take the same `Options`. docs/api.md has an example.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Unpack

    from convert.errors import Exit as Exit
    from convert.errors import Failure as Failure
    from convert.errors import UsageFailure as UsageFailure
    from convert.formats import load_recipe as load_recipe
    from convert.pipeline.result import Converted as Converted
    from convert.pipeline.result import Plan as Plan
    from convert.pipeline.run import Run as Run
    from convert.pipeline.start import Options as Options
    from convert.recipe import Recipe as Recipe
    from convert.store import inspect as inspect
    from verify.report import Report as Report

# Where a name is defined that is only imported when somebody asks for it: `--help` needs none of them.
_PLACES = {
    "Converted": "convert.pipeline.result",
    "Exit": "convert.errors",
    "Failure": "convert.errors",
    "Options": "convert.pipeline.start",
    "Plan": "convert.pipeline.result",
    "Recipe": "convert.recipe",
    "Report": "verify.report",
    "Run": "convert.pipeline.run",
    "UsageFailure": "convert.errors",
    "inspect": "convert.store",
    "load_recipe": "convert.formats",
}


def plan_recipe(recipe: Recipe, **options: Unpack[Options]) -> Plan:
    """Say what a conversion would read, build and write; read no weights."""
    from convert.pipeline import PLAN, fold, start  # noqa: PLC0415 - brings the formats and their codecs

    return fold(start(recipe, options), PLAN).plan


def convert_recipe(recipe: Recipe, **options: Unpack[Options]) -> Converted:
    """Build every target that is not up to date, all in one pass over the weights."""
    from convert.pipeline import CONVERT, fold, start  # noqa: PLC0415

    return fold(start(recipe, options), CONVERT).converted


def verify_recipe(recipe: Recipe, **options: Unpack[Options]) -> Report:
    """Open, question and measure what was built, judge it against the source, and keep the report."""
    from convert.pipeline import VERIFY, fold, start  # noqa: PLC0415

    return fold(start(recipe, options), VERIFY).report


def publish_recipe(
    recipe: Recipe, *, to: str | None = None, is_dry: bool = False, **options: Unpack[Options]
) -> Run:
    """Publish what passed, and read it back: the run has `bundles`, `surveys` and `published`."""
    from convert.pipeline import PUBLISH, fold, start  # noqa: PLC0415

    return fold(start(recipe, options, to=to, is_dry=is_dry), PUBLISH)


def run_recipe(recipe: Recipe, **options: Unpack[Options]) -> Run:
    """Convert, verify, and publish if the recipe says so: the run has what each has found."""
    from convert.pipeline import RUN, fold, start  # noqa: PLC0415

    return fold(start(recipe, options), RUN)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)

"""`modelwright run`: convert, verify, and publish if the recipe says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.cli.option import (
    BUDGET,
    OFFLINE,
    ONLY,
    OUT,
    RECIPE,
    RUNTIME,
    STORE,
    THREADS,
    TO,
    answering,
    asked,
)
from convert.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output
    from convert.pipeline.run import Run
    from convert.pipeline.start import Options


@answering
@RECIPE
@TO
@ONLY
@OUT
@STORE
@BUDGET
@RUNTIME
@THREADS
@OFFLINE
def command(output: Output, *, recipe: str, targets: str | None, options: Options) -> Exit:
    """Convert, verify, and publish where the recipe has publish:.

    The same as the three commands one after the other. The exit code is 3 where a gate failed
    or is inconclusive, and the recipe does not waive it: what was built is kept, and nothing goes out.
    """
    from convert.pipeline import RUN, start, steps  # noqa: PLC0415 - brings the formats and their codecs

    run = start(asked(recipe, targets), options)
    try:
        for after in steps(run, RUN):
            run = after
    finally:  # what took hours to find is shown, whatever became of the rest
        if run.report:
            output.answer(_data(run), lambda: _lines(run))
    return Exit.DONE if run.report.passed or run.recipe.publish else Exit.GATE_FAILED


def _data(run: Run) -> dict[str, Any]:
    from convert.cli.command import convert, publish  # noqa: PLC0415

    return {
        "converted": convert.data(run.converted),
        "report": run.report.as_dict(),
        "repos": publish.data(run) if run.published else [],
    }


def _lines(run: Run) -> Iterator[str]:
    from convert.cli import verdict  # noqa: PLC0415 - brings the report
    from convert.cli.command import convert, publish  # noqa: PLC0415

    yield from convert.lines(run.converted)
    yield ""
    yield from verdict.lines(run.report, run.page, subjects=run.subjects, recipe=run.recipe)
    if run.published:
        yield ""
        yield from publish.lines(run)

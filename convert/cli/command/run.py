"""`modelwright run`: convert, verify, and publish if the recipe says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.cli.option import OFFLINE, ONLY, OUT, RECIPE, THREADS, answering
from convert.errors import Exit, Failure

if TYPE_CHECKING:
    from pathlib import Path

    from convert.cli.output import Output


@answering
@RECIPE
@ONLY
@OUT
@THREADS
@OFFLINE
def command(
    output: Output, recipe: str, only: tuple[str, ...], out: Path, threads: int | None, *, is_offline: bool
) -> Exit:
    """Convert, verify, and publish where the recipe has publish:.

    The same as the three commands one after the other. The exit code is 3 where a gate failed that
    the recipe does not waive: what was built is kept, and nothing goes out.
    """
    from convert import pipeline  # noqa: PLC0415 - brings the formats and their codecs
    from convert.cli import (  # noqa: PLC0415
        merge,
        publication,
        verdict,
        verification,
    )
    from convert.cli.command import convert as conversion  # noqa: PLC0415
    from convert.cli.reading import read  # noqa: PLC0415

    wanted, offline = read(recipe), is_offline or None
    converted = pipeline.convert(
        wanted, out=out, only=only, progress=output.progress(), threads=threads, offline=offline
    )
    asked = verification.of_recipe(wanted, out=out, only=only, offline=offline)
    report = verification.judge(asked, output, threads=threads)
    told: dict[str, Any] = {"converted": conversion.data(converted), "report": report.as_dict(), "repos": []}
    lines = [*conversion.lines(converted), ""]
    try:
        merge.keep(report, out / wanted.name)
    except Failure:
        output.answer(told, lambda: [*lines, *verdict.lines(report)])
        raise
    lines += verdict.lines(report, str(out / wanted.name / "report.html"))
    if wanted.publish is None:
        output.answer(told, lambda: lines)
        return Exit.DONE if report.passed else Exit.GATE_FAILED
    settings = publication.settings_for(wanted, output, out=out, only=only, offline=offline)
    try:
        told["repos"], published = publication.publish(settings, output, is_dry=False)
        lines += ["", *published]
    finally:  # what was found is told, whatever became of the rest
        output.answer(told, lambda: lines)
    return Exit.DONE

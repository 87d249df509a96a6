"""`modelwright report`: what the last verification found, rendered again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.option import OUT, RECIPE, answering

if TYPE_CHECKING:
    from convert.cli.output import Output


@answering
@RECIPE
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page there instead of beside report.json.",
)
@OUT
def command(output: Output, recipe: str, html: Path | None, out: Path) -> None:
    """Show what the last verification of a recipe found.

    report.md and report.html are written anew from report.json; nothing is opened or measured.
    """
    from convert.cli import merge, verdict  # noqa: PLC0415 - brings pydantic and the report
    from convert.recipe import find  # noqa: PLC0415
    from verify.report import NAME, page, read, write  # noqa: PLC0415

    folder = out / find(recipe).stem
    report = read(folder / NAME)
    if html:
        write(html, page.render(report))
    else:
        merge.render(report, folder)
    for artifact in report.artifacts:
        if merge.is_newer(artifact, folder):
            output.remark(f"{artifact.name}: built anew since; `verify` tells of what stands there now")
    place = html or folder / "report.html"
    output.answer(report.as_dict(), lambda: verdict.lines(report, str(place)))

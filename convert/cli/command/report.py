"""`modelwright report`: what the last verification found, rendered again."""

from pathlib import Path

import click

from convert.cli.option import OUT, RECIPE, answering
from convert.cli.output import Output


@answering
@RECIPE
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page there instead of next to report.json.",
)
@OUT
def command(output: Output, recipe: str, html: Path | None, out: Path) -> None:
    """Show what the last verification of a recipe found.

    report.md and report.html are rendered again from report.json; nothing is opened or measured.
    """
    from convert.cli import verdict  # noqa: PLC0415 - brings pydantic and the report
    from convert.pipeline.stage.keep import render_again  # noqa: PLC0415
    from convert.recipe import find  # noqa: PLC0415
    from verify.task import Subject  # noqa: PLC0415

    folder = out / find(recipe).stem
    report, page, rebuilt = render_again(folder, html)
    for name in rebuilt:
        output.remark(f"{name}: rebuilt since; `verify` judges what is there now")
    there = [each.name for each in report.artifacts if each.name not in rebuilt]
    subjects = [Subject(name, folder / name) for name in there]
    output.answer(report.as_dict(), lambda: verdict.lines(report, page, subjects))

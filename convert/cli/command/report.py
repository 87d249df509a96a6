"""`modelwright report`: what the last verification found, rendered again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.option import OUT, RECIPE, answering
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output
    from convert.recipe import Recipe


@answering
@RECIPE
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page there instead of next to report.json.",
)
@click.option("--explain", "is_explained", is_flag=True, help="Say what each column means, a line each.")
@OUT
def command(output: Output, recipe: str, html: Path | None, out: Path, *, is_explained: bool) -> None:
    """Show what the last verification of a recipe found.

    report.md and report.html are rendered again from report.json; nothing is opened or measured.
    """
    from convert.cli import verdict  # noqa: PLC0415 - brings pydantic and the report
    from convert.formats import load_recipe  # noqa: PLC0415
    from convert.pipeline.stage.keep import render_again  # noqa: PLC0415
    from convert.recipe import find  # noqa: PLC0415
    from verify.task import Subject  # noqa: PLC0415

    loaded: Recipe | None = None
    folder = out / find(recipe).stem
    report, page, rebuilt = render_again(folder, html)
    for name in rebuilt:
        output.remark(f"{name}: rebuilt since; `verify` judges what is there now")
    there = [each.name for each in report.artifacts if each.name not in rebuilt]
    subjects = [Subject(name, folder / name) for name in there]
    with suppress(Failure):  # it changed, and cannot be read: then it has no hints
        loaded = load_recipe(recipe)

    def lines() -> Iterator[str]:
        yield from verdict.lines(report, page, subjects=subjects, recipe=loaded)
        if is_explained:
            yield from ("", *verdict.explained())

    output.answer(report.as_dict(), lines)

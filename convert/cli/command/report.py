"""`modelwright report`: what the last verification found, rendered again."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.option import OUT, RECIPES, answering
from convert.errors import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output


@answering
@RECIPES
@click.option(
    "--html",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the page there instead of next to report.json; of several recipes it is one page.",
)
@click.option("--explain", "is_explained", is_flag=True, help="Say what each column means, a line each.")
@OUT
def command(
    output: Output, recipes: tuple[str, ...], html: Path | None, out: Path, *, is_explained: bool
) -> None:
    """Show what the last verification of a recipe found.

    report.md and report.html are rendered again from report.json; nothing is opened or measured. With
    several recipes and --html one page compares them all.
    """
    from convert.cli import verdict  # noqa: PLC0415 - brings pydantic and the report
    from convert.formats import load_recipe  # noqa: PLC0415
    from convert.pipeline.stage.keep import is_newer, render, render_page  # noqa: PLC0415
    from convert.recipe import find  # noqa: PLC0415
    from verify.report import NAME, others, read, write  # noqa: PLC0415
    from verify.task import Subject  # noqa: PLC0415

    folders = [out / find(recipe).stem for recipe in recipes]
    reports = [read(folder / NAME) for folder in folders]
    loaded = []
    for recipe in recipes:
        with suppress(Failure):  # it changed, and cannot be read: then it has no hints, and no choice
            loaded.append(load_recipe(recipe))
    if html:
        further = [each for folder in folders for each in others(folder).values()]
        write(html, render_page([*reports, *further], loaded, out))

    def lines() -> Iterator[str]:
        for report, folder in zip(reports, folders, strict=True):
            there = [each.name for each in report.artifacts if not is_newer(each, folder)]
            subjects = [Subject(name, folder / name) for name in there]
            own = next((each for each in loaded if each.name == folder.name), None)
            written = html or folder / "report.html"
            yield from verdict.lines(report, written, subjects=subjects, recipe=own)
        if is_explained:
            yield from ("", *verdict.explained())

    for report, folder in zip(reports, folders, strict=True):
        if not html:
            render(report, folder, loaded)
        for each in report.artifacts:
            if is_newer(each, folder):
                output.remark(f"{each.name}: rebuilt since; `verify` judges what is there now")
    found = [report.as_dict() for report in reports]
    output.answer(found[0] if len(found) == 1 else {"reports": found}, lines)

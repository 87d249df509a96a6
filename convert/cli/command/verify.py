"""`modelwright verify`: open, question, measure and judge what was converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.cli.option import OFFLINE, ONLY, OUT, THREADS, WHAT, answering
from convert.errors import Exit, UsageFailure

if TYPE_CHECKING:
    from convert.cli.output import Output
    from convert.cli.verification import Asked


@answering
@WHAT
@click.option(
    "--source", metavar="MODEL", help="The model to hold artifacts against: a Hub repo or a folder."
)
@ONLY
@OUT
@click.option(
    "--scenarios",
    "packs",
    metavar="PACK",
    multiple=True,
    help="A scenario, or the file of a pack, in place of the recipe's. May be repeated.",
)
@click.option(
    "--text",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A text to compare odds on, in place of the recipe's.",
)
@click.option(
    "--option",
    "options",
    metavar="NAME=VALUE",
    multiple=True,
    help="An option of the artifacts' runtime, such as a server's model=NAME or api_key_env=VARIABLE.",
)
@click.option(
    "--report",
    "folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write report.json, .md and .html; a recipe's lie beside its artifacts.",
)
@THREADS
@OFFLINE
def command(
    output: Output,
    *,
    what: tuple[str, ...],
    source: str | None,
    only: tuple[str, ...],
    out: Path,
    packs: tuple[str, ...],
    text: Path | None,
    options: tuple[str, ...],
    folder: Path | None,
    threads: int | None,
    is_offline: bool,
) -> Exit:
    """Judge artifacts against their source.

    Each is opened in its own runtime, asked the same questions as the source, and measured. RECIPE
    stands for the artifacts that it built. An ARTIFACT is a folder, a model file, or the address of
    an OpenAI-compatible server; one that was made elsewhere is judged too, against --source. The
    exit code is 3 where a gate failed: the artifact is kept, and never published.
    """
    from convert.cli import (  # noqa: PLC0415 - brings the formats and their codecs
        merge,
        verdict,
        verification,
    )

    asked = _asked(what, source, only, out, options, offline=is_offline or None)
    for remark in asked.remarks:
        output.remark(remark)
    report = verification.judge(asked, output, threads=threads, packs=packs, text=text)
    place = folder or asked.folder
    page: str | None = None
    try:
        if place:
            merge.keep(report, place)
            page = str(place / "report.html")
    finally:  # what took hours to find is told, whether or not there was room to keep it
        output.answer(report.as_dict(), lambda: verdict.lines(report, page))
    return Exit.DONE if report.passed else Exit.GATE_FAILED


def _asked(
    what: tuple[str, ...],
    source: str | None,
    only: tuple[str, ...],
    out: Path,
    options: tuple[str, ...],
    *,
    offline: bool | None,
) -> Asked:
    """One recipe, or artifacts; a recipe's name goes before a folder of the same name."""
    from convert.cli import verification  # noqa: PLC0415
    from convert.cli.reading import read  # noqa: PLC0415
    from convert.recipe import known_recipes  # noqa: PLC0415

    recipes = [
        name
        for name in what
        if name in known_recipes() or (Path(name).suffix in (".yaml", ".yml") and not Path(name).is_dir())
    ]
    if recipes and len(what) > 1:
        raise UsageFailure(f"{recipes[0]} is a recipe, and one recipe is verified at a time")
    is_place = what[0].startswith(("http://", "https://")) or Path(what[0]).exists()
    if recipes or not (is_place or source or options):
        if source or options:
            name = "--source" if source else "--option"
            raise UsageFailure(f"{name} is for artifacts; a recipe says itself what it is made of")
        return verification.of_recipe(read(what[0]), out=out, only=only, offline=offline)
    if only:
        raise UsageFailure("--only is for a recipe; name the artifacts that you mean")
    return verification.of_artifacts(what, source=source, offline=offline, options=options)

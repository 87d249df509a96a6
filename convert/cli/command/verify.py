"""`modelwright verify`: open, question, measure and judge what was converted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.cli.option import (
    BUDGET,
    OFFLINE,
    ONLY,
    ONLY_QUALITY,
    ONLY_SPEED,
    OPTION,
    OUT,
    RUNTIME,
    SERVE,
    STORE,
    THREADS,
    WHAT,
    answering,
)
from convert.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert.cli.output import Output
    from convert.pipeline.run import Trial
    from convert.pipeline.start import Options


def _numbers(_: click.Context, __: click.Parameter, given: str | None) -> tuple[int, ...] | None:
    """Read numbers of users, with commas between them."""
    if given is None:
        return None
    words = given.split(",")
    if not all(word.strip().isdecimal() and 0 < int(word) <= 1000 for word in words):
        raise click.BadParameter(f"{given!r} is not a list of numbers such as 1,4,20")
    return tuple(int(word) for word in words)


@answering
@WHAT
@click.option(
    "--source", metavar="MODEL", help="The model to compare artifacts with: a Hub repo or a folder."
)
@ONLY
@OUT
@STORE
@click.option(
    "--scenarios",
    "packs",
    metavar="PACK",
    multiple=True,
    help="A scenario, or the file of a pack, in place of the recipe's. May be repeated.",
)
@click.option(
    "--tasks",
    metavar="TASK",
    multiple=True,
    help="A task of lm-evaluation-harness, or the file of one, in place of the recipe's. May be repeated.",
)
@click.option(
    "--text",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A text to compare log-probabilities on, in place of the recipe's.",
)
@click.option(
    "--texts",
    metavar="KIND",
    type=click.Choice(("prose", "science", "code", "tools", "long", "chinese")),
    multiple=True,
    help="A kind of text to compare log-probabilities on: prose, science, code, tools, long, chinese. "
    "May be repeated.",
)
@OPTION
@click.option(
    "--report",
    "report_folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where to write report.json, .md and .html; a recipe's go next to its artifacts.",
)
@click.option(
    "--on",
    metavar="CLASS",
    help="Judge as this class of nodes, by its own gates and into its report; the recipe's first by default.",
)
@BUDGET
@click.option(
    "--attest",
    "attests",
    is_flag=True,
    help="Write verification.intoto.json next to the report, signed if MODELWRIGHT_SIGNING_KEY names a key.",
)
@ONLY_QUALITY
@ONLY_SPEED
@RUNTIME
@SERVE
@click.option(
    "--load",
    metavar="PROFILE",
    type=click.Choice(("chat", "retrieval", "lesson")),
    help="Ask a server as many users do: short chats, retrieval with 2,000 tokens, or whole lessons.",
)
@click.option(
    "--concurrency",
    metavar="N,N,…",
    callback=_numbers,
    help="How many ask at once, level by level: 1,4,20.",
)
@THREADS
@OFFLINE
def command(output: Output, *, what: tuple[str, ...], options: Options, **given: Any) -> Exit:
    """Judge artifacts against their source.

    Each is opened in a runtime, asked the same questions as the source, and measured. RECIPE
    means the artifacts that it built. An ARTIFACT is a folder, a model file, or the address of
    an OpenAI-compatible server; one that was made elsewhere is judged too, against --source, and by
    the default limits. The exit code is 3 where a gate failed, or is inconclusive because nothing
    could be measured for it: the artifact is kept, and never published.
    """
    from convert import pipeline  # noqa: PLC0415 - brings the formats and their codecs

    trial = pipeline.start_verification(what, options, **given)
    try:
        for after in pipeline.verify_steps(trial):
            trial = after
    finally:  # what took hours to find is shown, whether or not there was room to keep it
        if trial.report:
            output.answer(trial.report.as_dict(), lambda: _lines(trial))
    return Exit.DONE if trial.report.passed else Exit.GATE_FAILED


def _lines(trial: Trial) -> Iterator[str]:
    from convert.cli import verdict  # noqa: PLC0415 - brings the report

    yield from verdict.lines(trial.report, trial.page, subjects=trial.subjects, recipe=trial.recipe)

"""`modelwright pick`: which model and format to take on a machine, and how to build and run it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convert.cli.option import OUT, answering
from convert.errors import Exit

if TYPE_CHECKING:
    from convert.cli.output import Output


@answering
@click.argument("what", nargs=-1, metavar="[RECIPE|MODEL|ARTIFACT|REPORT]...")
@click.option(
    "--on",
    "machine",
    metavar="MACHINE",
    default="here",
    show_default=True,
    help="A machine by its profile's name (laptop-8gb, rtx-4090, a100-80x4, …) or path; here is this one.",
)
@click.option("--ram", metavar="SIZE", help="Memory in place of the machine's: 8GB.")
@click.option("--vram", metavar="SIZE", help="Memory of each GPU in place of the machine's: 24GB.")
@click.option("--gpus", metavar="N", type=click.IntRange(min=0), help="How many GPUs.")
@click.option("--cores", metavar="N", type=click.IntRange(min=1), help="How many cores.")
@click.option("--os", metavar="NAME", help="The system: linux, macos, windows, android or ios.")
@click.option("--runtime", metavar="NAME", help="A runtime, such as ollama or vllm, or the path of its file.")
@click.option(
    "--context",
    metavar="TOKENS",
    default="4k",
    show_default=True,
    help="How long texts get, answers included.",
)
@click.option(
    "--users",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many ask at once.",
)
@click.option("--language", metavar="CODE", help="A language that the model must speak: zh, en, de, …")
@click.option(
    "--min-speed",
    metavar="TOK/S",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="The least speed of each user's answer; people read about as fast.",
)
@click.option(
    "--max-kl", metavar="NATS", type=click.FloatRange(min=0), help="How far answers may be from the source's."
)
@click.option(
    "--goal",
    metavar="GOAL",
    type=click.Choice(["quality", "speed", "size"]),
    default="quality",
    show_default=True,
    help="What decides between those that fit: quality, speed or size.",
)
@click.option(
    "--write",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the recipe that builds the answer.",
)
@click.option(
    "--page",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a page to choose on: for other machines and needs, with what reports have measured.",
)
@OUT
def command(
    output: Output, *, what: tuple[str, ...], write: Path | None, page: Path | None, **given: Any
) -> Exit:
    """Choose a model and a format for a machine.

    All recipes and artifacts here are weighed, or those that are named; a MODEL is a Hub repo or a
    folder. Nothing need be built or downloaded: sizes and caches follow from the models'
    descriptions, and what is estimated is marked with ~. A failed artifact is never the answer, and
    one that nobody verified comes with the command that does. The exit code is 3 where nothing
    fits, with what comes nearest and what would have to give.
    """
    from convert.cli import choice  # noqa: PLC0415 - brings the formats
    from convert.pick import commands  # noqa: PLC0415
    from convert.pick.candidate import NOT_WEIGHED, gather  # noqa: PLC0415
    from convert.pick.machine import overridden  # noqa: PLC0415
    from convert.pick.need import Need, read_tokens  # noqa: PLC0415
    from convert.pick.page import render_page  # noqa: PLC0415
    from convert.pick.profile import find_machine  # noqa: PLC0415
    from convert.pick.rank import rank  # noqa: PLC0415
    from convert.pick.sentence import heading  # noqa: PLC0415
    from verify.report import write as write_file  # noqa: PLC0415

    machine = overridden(
        find_machine(given["machine"]),
        {part: given[part] for part in ("ram", "vram", "gpus", "cores", "os", "runtime")},
    )
    need = Need(
        context=read_tokens(given["context"]),
        users=given["users"],
        language=given["language"],
        min_speed=given["min_speed"],
        max_kl=given["max_kl"],
        goal=given["goal"],
    )
    candidates = gather(what, given["out"])
    found = rank(candidates, machine, need)
    for name, failure in sorted(NOT_WEIGHED.items()):
        output.remark(f"{name} is left out: {failure.message}; {failure.hint}")
    output.answer(choice.data(found), lambda: choice.lines(found))
    if page:
        write_file(page, render_page(candidates, machine, need))
        output.remark(f"{page}: written")
    if found.answer is None:
        return Exit.GATE_FAILED
    if write:
        write_file(write, commands.recipe(found.answer, f"Chosen for {heading(found)}."))
        output.remark(f"{write}: written; modelwright run {write}")
    return Exit.DONE

"""`modelwright convert`: build what a recipe asks for and is not there already."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.cli.option import DEFAULT_OUT, OFFLINE, ONLY, OUT, RECIPE, THREADS, TO, answering, asked
from convert.cli.text import count, table
from convert.size import duration, size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convert import Converted, Options
    from convert.cli.output import Output


@answering
@RECIPE
@TO
@ONLY
@OUT
@THREADS
@OFFLINE
def command(output: Output, *, recipe: str, targets: str | None, options: Options) -> None:
    """Build every artifact that the recipe asks for.

    The source is downloaded, checked and read once, for all targets together. An artifact that
    is there already, made from the same source by the same recipe, is not built again.
    """
    from convert import convert_recipe  # noqa: PLC0415 - pydantic

    converted = convert_recipe(asked(recipe, targets), **options)
    output.answer(data(converted), lambda: lines(converted, _next(recipe, targets, converted, options)))


def _next(recipe: str, targets: str | None, converted: Converted, options: Options) -> str:
    """Return the command that verifies what was asked for."""
    if targets is None:
        words = [recipe, *(word for name in options.get("only", ()) for word in ("--only", name))]
        words += ["--out", str(options["out"])] if options["out"] != DEFAULT_OUT else []
    else:
        words = [str(each.folder) for each in converted.artifacts]
        words += ["--source", recipe] if Path(recipe).is_dir() else []  # whose name no manifest has
    return shlex.join(["modelwright", "verify", *words])


def data(converted: Converted) -> dict[str, Any]:
    """Return the answer for a program."""
    return {
        "artifacts": converted.artifacts,
        "read_bytes": converted.read_bytes,
        "seconds": round(converted.seconds, 3),
    }


def lines(converted: Converted, next_command: str = "") -> Iterator[str]:
    """Write the answer for a person."""
    rows = [
        (artifact.status, size(artifact.size_bytes), str(artifact.folder)) for artifact in converted.artifacts
    ]
    yield from table(("status", "size", "folder"), rows, right="size")
    yield ""
    built = sum(artifact.status == "built" for artifact in converted.artifacts)
    if built:
        yield f"{count(built, 'artifact')} built in {duration(converted.seconds)}"
    else:
        yield "everything is up to date"
    if next_command:
        yield f"next: {next_command}"

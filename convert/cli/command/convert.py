"""`modelwright convert`: build what a recipe asks for and is not there already."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convert.cli.option import (
    DEFAULT_OUT,
    OFFLINE,
    ONLY,
    OUT,
    PART,
    RECIPE,
    STORE,
    THREADS,
    TO,
    answering,
    asked,
)
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
@STORE
@THREADS
@OFFLINE
@PART
def command(
    output: Output, *, recipe: str, targets: str | None, part: tuple[int, int] | None, options: Options
) -> None:
    """Build every artifact that the recipe asks for.

    The source is downloaded, checked and read once, for all targets together. An artifact that
    is there already, made from the same source by the same recipe, is not built again.

    With --part several machines share the work: each makes its part in the same --out, a folder that
    all of them see, and `assemble` completes the artifacts. The bytes are those of one machine.
    """
    if part is not None:
        _make_part(output, recipe, targets, part, options)
        return
    from convert import convert_recipe  # noqa: PLC0415 - pydantic

    converted = convert_recipe(asked(recipe, targets), **options)
    output.answer(
        data(converted), lambda: lines(converted, next_command(recipe, targets, converted, options))
    )


def next_command(recipe: str, targets: str | None, converted: Converted, options: Options) -> str:
    """Return the command that verifies what was asked for."""
    if targets is None:
        words = [recipe, *(word for name in options.get("only", ()) for word in ("--only", name))]
        words += ["--out", str(options["out"])] if options["out"] != DEFAULT_OUT else []
    else:
        words = [str(each.folder) for each in converted.artifacts]
        words += ["--source", recipe] if Path(recipe).is_dir() else []  # whose name no manifest has
    return shlex.join(["modelwright", "verify", *words])


def _make_part(
    output: Output, recipe: str, targets: str | None, part: tuple[int, int], options: Options
) -> None:
    from convert.pipeline import PART as STAGES  # noqa: PLC0415 - brings the formats and their codecs
    from convert.pipeline import fold, start  # noqa: PLC0415
    from convert.writer.share import Part  # noqa: PLC0415 - the command's help does without

    run = fold(start(asked(recipe, targets), options, part=Part(*part)), STAGES)
    names = [job.name for job in run.jobs]
    said = f"part {run.part} of {', '.join(names)}" if names else "everything is up to date"
    output.answer(
        {"part": str(run.part), "targets": names}, lambda: (said, f"next: modelwright assemble {recipe}")
    )


def data(converted: Converted) -> dict[str, Any]:
    """Return the answer for a program."""
    return {
        "artifacts": converted.artifacts,
        "read_bytes": converted.read_bytes,
        "seconds": round(converted.seconds, 3),
    }


def lines(converted: Converted, following: str = "") -> Iterator[str]:
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
    if following:
        yield f"next: {following}"

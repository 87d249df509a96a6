"""`modelwright convert`: build what a recipe asks for and does not stand already."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from convert.cli.option import OFFLINE, ONLY, OUT, RECIPE, THREADS, answering
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from convert.cli.output import Output
    from convert.pipeline import Converted


@answering
@RECIPE
@ONLY
@OUT
@THREADS
@OFFLINE
def command(
    output: Output, recipe: str, only: tuple[str, ...], out: Path, threads: int | None, *, is_offline: bool
) -> None:
    """Build every artifact that the recipe asks for.

    The source is downloaded, checked and read once, for all targets together. An artifact that
    stands already, made from the same source by the same recipe, is not built again.
    """
    from convert import pipeline  # noqa: PLC0415 - brings the formats and their codecs
    from convert.cli.reading import read  # noqa: PLC0415

    converted = pipeline.convert(
        read(recipe),
        out=out,
        only=only,
        progress=output.progress(),
        threads=threads,
        offline=is_offline or None,  # otherwise the Hub's own environment variable decides
    )
    output.answer(data(converted), lambda: lines(converted))


def data(converted: Converted) -> dict[str, Any]:
    """What a program reads."""
    return {
        "artifacts": [
            {
                "target": artifact.target,
                "folder": artifact.folder,
                "status": artifact.status,
                "size_bytes": artifact.size_bytes,
            }
            for artifact in converted.artifacts
        ],
        "read_bytes": converted.read_bytes,
        "seconds": round(converted.seconds, 3),
    }


def lines(converted: Converted) -> Iterator[str]:
    """What a person reads."""
    from convert.cli.text import count, duration, table  # noqa: PLC0415

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

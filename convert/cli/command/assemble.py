"""`modelwright assemble`: complete the artifacts that several machines have made in parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from convert.cli.option import OFFLINE, ONLY, OUT, RECIPE, STORE, THREADS, TO, answering, asked

if TYPE_CHECKING:
    from convert.cli.output import Output
    from convert.pipeline.start import Options


@answering
@RECIPE
@TO
@ONLY
@OUT
@STORE
@THREADS
@OFFLINE
def command(output: Output, *, recipe: str, targets: str | None, options: Options) -> None:
    """Complete the artifacts that were made in parts.

    All parts of `modelwright convert RECIPE --part K/N` must be in the folder of all artifacts. Their
    files are digested and put in place, as those of one machine are, and the parts are removed.
    """
    from convert.cli.command.convert import data, lines, next_command  # noqa: PLC0415
    from convert.pipeline import ASSEMBLE, fold, start  # noqa: PLC0415 - brings the formats and their codecs

    converted = fold(start(asked(recipe, targets), options), ASSEMBLE).converted
    output.answer(
        data(converted), lambda: lines(converted, next_command(recipe, targets, converted, options))
    )

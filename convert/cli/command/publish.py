"""`modelwright publish`: let out what passed, and read it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from convert.cli.option import OFFLINE, ONLY, OUT, RECIPE, answering

if TYPE_CHECKING:
    from pathlib import Path

    from convert.cli.output import Output


@answering
@RECIPE
@ONLY
@OUT
@click.option(
    "--dry-run",
    "is_dry",
    is_flag=True,
    help="Show the repo, its files, the card, and what would be uploaded; change nothing.",
)
@click.option(
    "--to",
    metavar="PLACE",
    help="A folder, an fsspec URL or oci://registry/path in place of the recipe's publish.to.",
)
@OFFLINE
def command(
    output: Output,
    *,
    recipe: str,
    only: tuple[str, ...],
    out: Path,
    is_dry: bool,
    to: str | None,
    is_offline: bool,
) -> None:
    """Publish the artifacts that passed.

    The last verification must be of exactly what stands there, by this version and this recipe;
    otherwise nothing goes out. A gate that failed and is not waived in the recipe's publish: is exit
    code 3. A repo changes in one commit, or not at all, and is read back. What has arrived is not sent
    twice: after a failure, run the same command again.
    """
    from convert.cli import publication  # noqa: PLC0415 - brings the formats and their codecs
    from convert.cli.reading import read  # noqa: PLC0415

    settings = publication.settings_for(
        read(recipe), output, out=out, only=only, offline=is_offline or None, to=to
    )
    told, lines = publication.publish(settings, output, is_dry=is_dry)
    output.answer({"is_dry_run": is_dry, "repos": told}, lambda: lines)

"""`modelwright clean`: remove what is useless in the artifacts' folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from convert.cli.option import OUT, STORE, answering
from convert.cli.text import count
from convert.errors import UsageFailure
from convert.size import size

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from convert.cli.output import Output
    from convert.store import Removed


@answering
@OUT
@STORE
# Not by default: a recipe that was given by its path is in no recipes/, and its artifacts took hours.
@click.option(
    "--orphans",
    "is_orphaned",
    is_flag=True,
    help="Remove sound artifacts too whose recipe is in no recipes/.",
)
@click.option("--dry-run", "is_dry_run", is_flag=True, help="Show what would be removed, and remove nothing.")
def command(output: Output, out: Path, *, store_url: str | None, is_orphaned: bool, is_dry_run: bool) -> None:
    """Remove leftovers and damaged artifacts.

    Leftovers are what killed builds left behind. Folders that were not made here stay, and so
    does what a build is working on. In a store, it is what nobody has gone on with for a day.
    """
    from convert.recipe import known_recipes  # noqa: PLC0415 - pydantic
    from convert.store import Remote, clean  # noqa: PLC0415

    recipes = known_recipes()
    if is_orphaned and not recipes:
        raise UsageFailure("there is no recipe here to judge by", "run it where the folder recipes/ is")
    removed = clean(out, dry_run=is_dry_run, keep=recipes.__contains__ if is_orphaned else None)
    if store_url:
        removed += Remote.at(store_url).sweep(dry_run=is_dry_run)
    size_bytes = sum(each.size_bytes for each in removed)
    data = {"is_dry_run": is_dry_run, "removed": removed, "size_bytes": size_bytes}
    output.answer(data, lambda: _lines(removed, is_dry_run=is_dry_run))


def _lines(removed: Sequence[Removed], *, is_dry_run: bool) -> Iterator[str]:
    if not removed:
        yield "nothing to remove"
        return
    for each in removed:
        why = each.why.removeprefix(f"{each.path}/").removeprefix(f"{each.path}: ")
        yield f"{size(each.size_bytes):>7}  {each.path}"
        yield f"         {why}"
    yield ""
    verb = "would be removed" if is_dry_run else "removed"
    yield f"{count(len(removed), 'folder')} {verb}, {size(sum(each.size_bytes for each in removed))}"

"""From the recipe that was named on the command line to what the stages take."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from convert.errors import Failure

if TYPE_CHECKING:
    from convert.recipe import Recipe


def read(path_or_name: str) -> Recipe:
    """The recipe, with the options of every format that there is."""
    from convert.formats import option_models  # noqa: PLC0415 - pydantic and the formats take their time
    from convert.recipe import load  # noqa: PLC0415

    return load(path_or_name, option_models())


def target_names(path_or_name: str | None) -> list[str]:
    """What --only may name for a recipe; nothing where the recipe cannot be read."""
    names: list[str] = []
    with suppress(Failure, OSError):
        for name, options in read(path_or_name).targets.items() if path_or_name else ():
            names += [name, *options.by_target()]
    return names

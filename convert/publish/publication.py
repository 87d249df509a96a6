"""A publication that is asked for: of what, where, and as whom."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from convert.progress import Progress
from convert.publish.bundle import Origin
from convert.publish.destination import Destination
from convert.recipe import Publish, Recipe, Target
from convert.source import Hub, Pinned


@dataclass(frozen=True)
class Publication:
    """What is to be published, where, and as whom."""

    recipe: Recipe
    wanted: Publish
    targets: tuple[Target, ...]  # of the recipe, those that are to be published
    folder: Path  # of the recipe's artifacts
    hub: Hub  # that the source came from
    source: Pinned | None  # its small files, where this run has pinned them
    destination: Destination | None  # None where nobody can look there
    user: str
    progress: Progress
    origin_of: Callable[[str, str], Origin]  # of a repo at a branch

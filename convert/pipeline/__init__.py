"""From a recipe to artifacts: the stages, on one screen."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from convert.checkpoint import open_checkpoint
from convert.model.binding import bind
from convert.model.config import read_config
from convert.model.families import find_family
from convert.model.source import Weights
from convert.pipeline.build import build
from convert.pipeline.stage import (
    Settings,
    Wanted,
    choose,
    describe,
    disk_bytes,
    find,
    lay_out,
    learn,
    require_memory,
)
from convert.progress import Progress, Silent
from convert.source import Hub, fetch
from convert.store import Store, require_space

if TYPE_CHECKING:
    from pathlib import Path

    from convert.recipe import Recipe


@dataclass(frozen=True)
class ArtifactResult:
    """What became of one target."""

    target: str
    folder: Path
    status: str  # "built" or "up to date"
    size_bytes: int


@dataclass(frozen=True)
class Converted:
    """What a conversion did."""

    artifacts: tuple[ArtifactResult, ...]
    read_bytes: int
    seconds: float


def convert(
    recipe: Recipe,
    *,
    out: Path,
    only: tuple[str, ...] = (),
    progress: Progress | None = None,
    threads: int | None = None,
    offline: bool | None = None,
) -> Converted:
    """Build every target of the recipe that does not stand already, all in one pass over the weights."""
    began = time.monotonic()
    asked = begin(recipe, out, only, progress=progress, threads=threads, offline=offline)
    found = find(asked)
    wanted = choose(asked, found)
    missing = [each for each in wanted if not each.is_up_to_date]
    if missing:
        model = describe(asked, found)
        jobs = lay_out(asked, model, missing)
        require_memory(jobs)
        asked.store.sweep()
        for each in missing:
            asked.store.require_free(recipe.name, each.target)
        require_space(out, disk_bytes(jobs))
        pinned = fetch(found.listing, hub=asked.hub, progress=asked.progress)
        with open_checkpoint(pinned.folder) as checkpoint:
            family = find_family(read_config(pinned.folder))
            origins, _ = bind(model.decoder, family.naming, checkpoint.tensors)
            weights = Weights(checkpoint, origins)
            build(asked, pinned, model, weights, learn(asked, model, weights, jobs))
    return Converted(
        tuple(_result(asked, each) for each in wanted),
        found.weight_bytes if missing else 0,
        time.monotonic() - began,
    )


def begin(
    recipe: Recipe,
    out: Path,
    only: tuple[str, ...] = (),
    *,
    progress: Progress | None = None,
    threads: int | None = None,
    offline: bool | None = None,
) -> Settings:
    """Bring together what was asked and where things stand."""
    hub = Hub.from_environment(is_offline=offline)
    return Settings(recipe, Store(out), hub, only, threads, progress or Silent())


def _result(settings: Settings, wanted: Wanted) -> ArtifactResult:
    manifest = settings.store.standing(settings.recipe.name, wanted.target)
    return ArtifactResult(
        wanted.target,
        settings.store.folder(settings.recipe.name, wanted.target),
        "up to date" if wanted.is_up_to_date else "built",
        manifest.size_bytes if manifest else 0,
    )

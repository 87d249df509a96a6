"""The stages of a conversion before any file is made: each a plain function that can be called alone."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from convert import machine
from convert.calibration import Source, find_source, identity
from convert.deviation import AS_SOURCE, Deviation
from convert.extras import installed
from convert.formats import find_format
from convert.formats.render import require_rendered
from convert.model.card import front_matter
from convert.model.config import read_config
from convert.model.families import find_family
from convert.model.source import Model, Weights
from convert.progress import Progress, Silent
from convert.recipe import choose as choose_targets
from convert.source import Hub, Listing, Pinned, fetch, fetch_small, list_source
from convert.store import Store, artifact_key
from convert.tokenizer import load as load_tokenizer
from convert.version import version

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from convert.formats.base import Format, Planned
    from convert.recipe import Recipe

# Manifests, licences and file-system blocks beside the planned files.
SPARE_BYTES = 16 << 20


@dataclass(frozen=True)
class Settings:
    """What the person asked for."""

    recipe: Recipe
    store: Store
    hub: Hub
    only: tuple[str, ...] = ()
    threads: int | None = None
    progress: Progress = field(default_factory=Silent)


@dataclass(frozen=True)
class Found:
    """The source, pinned, its small files at hand, and the digest of each file that will be read."""

    listing: Listing
    pinned: Pinned
    digests: Mapping[str, str]

    weights: tuple[str, ...]
    texts: Source | None = None  # what the targets that learn will learn from

    @property
    def weight_bytes(self) -> int:
        """Say how much a conversion reads."""
        return sum(self.listing.files[name].size_bytes for name in self.weights)


@dataclass(frozen=True)
class Wanted:
    """One artifact to be, and the key that tells whether it stands already."""

    format: Format[Any, Any]
    options: Any
    target: str
    key: str
    is_up_to_date: bool


@dataclass(frozen=True)
class Job:
    """One artifact to build, planned to the byte."""

    wanted: Wanted
    prepared: Any  # what the format shares between its targets
    planned: Planned


def find(settings: Settings) -> Found:
    """Pin the source and bring everything but the weights."""
    recipe = settings.recipe
    listing = list_source(str(recipe.folder or recipe.model), recipe.revision, hub=settings.hub)
    # Nothing vouches for a folder but its content, so that is read now; what was read before is remembered.
    small = fetch_small(listing, hub=settings.hub, progress=settings.progress)
    pinned = fetch(listing, hub=settings.hub, progress=settings.progress) if listing.folder else small
    # What the listing says of a repo's file is known before it is here, and is the same afterwards.
    digests = {
        name: str(listing.files[name].blob or digest.sha256 or digest.git_sha1)
        for name, digest in sorted({**pinned.pending, **pinned.files}.items())
    }
    return Found(listing, pinned, digests, tuple(small.pending), _texts(settings))


def _texts(settings: Settings) -> Source | None:
    """Where the recipe's calibration texts are, if any target asks for them; a dataset is pinned here."""
    recipe = settings.recipe
    if recipe.calibration is None or not any(
        each.options.learns_by is not None for each in choose_targets(recipe, settings.only)
    ):
        return None
    return find_source(recipe.calibration, recipe.path.parent, settings.hub)


def describe(settings: Settings, found: Found) -> Model:
    """Read config.json and the tokenizer: what cannot be converted is refused here, before any weights."""
    folder = found.pinned.folder
    config = read_config(folder)
    decoder = find_family(config).describe(config)
    tokenizer = load_tokenizer(folder, config.text("model_type"), config.values, decoder.vocab_size)
    card, fault = front_matter(folder)
    generation = (
        read_config(folder, "generation_config.json").values
        if (folder / "generation_config.json").is_file()
        else {}
    )
    return Model(
        title=_title(settings.recipe, found),
        repo=found.listing.repo,
        decoder=decoder,
        tokenizer=tokenizer,
        folder=folder,
        card=card,
        generation=generation,
        weight_bytes=found.weight_bytes,
        texts=found.texts,
        deviations=_without("source", [fault] if fault else []),
        left_out=_without("model", decoder.deviations),
    )


def _without(subject: str, faults: Iterable[str]) -> tuple[Deviation, ...]:
    return tuple(Deviation(subject, AS_SOURCE, "without", fault) for fault in faults)


def choose(settings: Settings, found: Found) -> tuple[Wanted, ...]:
    """Name the artifacts that are asked for, and see which of them are up to date."""
    recipe = settings.recipe
    wanted: list[Wanted] = []
    for each in choose_targets(recipe, settings.only):
        format_, options = find_format(each.format_name), each.options
        inputs = format_.inputs(options, recipe)
        if options.learns_by is not None and found.texts and recipe.calibration:
            inputs |= identity(found.texts, recipe.calibration)
        key = artifact_key(
            source_digests=found.digests,
            target=each.name,
            options=each.own_options,
            format_revision=format_.REVISION,
            tools=format_.tools(options, each.name),
            also={"title": _title(recipe, found), "repo": found.listing.repo, **inputs},
        )
        is_up_to_date = settings.store.is_up_to_date(recipe.name, each.name, key)
        wanted.append(Wanted(format_, options, each.name, key, is_up_to_date))
    return tuple(wanted)


def lay_out(settings: Settings, model: Model, wanted: Iterable[Wanted]) -> list[Job]:
    """Plan every file to the byte; what a format cannot express is refused."""
    wanted = tuple(wanted)
    require_rendered(settings.recipe, dict.fromkeys(each.format.name for each in wanted), model.decoder)
    prepared: dict[int, Any] = {}
    jobs: list[Job] = []
    for each in wanted:
        format_, options = each.format, each.options
        if id(options) not in prepared:
            prepared[id(options)] = format_.prepare(model, options, settings.recipe)
        ready = prepared[id(options)]
        jobs.append(Job(each, ready, format_.lay_out(model, options, each.target, ready)))
    return jobs


def disk_bytes(jobs: Iterable[Job]) -> int:
    """Say what must be free on the disk while these are built."""
    needed_bytes = sum(job.planned.disk_bytes for job in jobs)
    return needed_bytes + SPARE_BYTES if needed_bytes else 0


def require_memory(jobs: Iterable[Job]) -> None:
    """Refuse what a tool could not do on this machine, before anything is downloaded for it."""
    for job in jobs:
        if job.planned.finish is not None:
            machine.require_memory(job.wanted.target, job.planned.finish.memory_bytes)


def learn(settings: Settings, model: Model, weights: Weights, jobs: list[Job]) -> list[Job]:
    """Let each format that learns from the weights do so once, and plan its files again."""
    learnt: dict[int, Any] = {}
    replanned: list[Job] = []
    for job in jobs:
        format_, options = job.wanted.format, job.wanted.options
        if id(options) not in learnt:
            learnt[id(options)] = format_.learn(
                job.prepared, model, options, settings.recipe, weights=weights, progress=settings.progress
            )
        ready = learnt[id(options)]
        if ready is job.prepared:
            replanned.append(job)
        else:
            planned = format_.lay_out(model, options, job.wanted.target, ready)
            replanned.append(replace(job, prepared=ready, planned=planned))
    return replanned


def _title(recipe: Recipe, found: Found) -> str:
    """Name the model: a folder's own name stays out, so that its bytes do not depend on where it lies."""
    return found.listing.repo.rpartition("/")[2] if found.listing.repo else recipe.name


def tools(wanted: Wanted) -> dict[str, str]:
    """Name the tools that made an artifact, with versions; those that decide its bytes are in its key too."""
    deciding = wanted.format.tools(wanted.options, wanted.target)
    return {"modelwright": version(), "numpy": installed("numpy"), **deciding}

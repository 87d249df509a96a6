"""From a recipe to artifacts: the stages, on one screen."""

from __future__ import annotations

import hashlib
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version as installed
from typing import TYPE_CHECKING, Any

from convert import engine
from convert.architectures import bind, find_architecture
from convert.card import front_matter, licence
from convert.checkpoint import open_checkpoint
from convert.config import read_config
from convert.errors import UsageFailure
from convert.formats import Deviation, Format, Model, Planned, Weights, registry
from convert.progress import Progress, Silent
from convert.source import (
    Hub,
    Listing,
    Pinned,
    fetch,
    fetch_small,
    is_legal,
    list_source,
)
from convert.store import Deviation as DeviationRecord
from convert.store import FileEntry, Manifest, SourceRecord, Store, artifact_key, require_space, seal
from convert.tokenizer import load as load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from convert.recipe import Recipe

# The interpreter, numpy and a vocabulary's tables, before the first slice is read.
PROGRAM_BYTES = 160 << 20
# What a plain disk reads and writes; for the plan's estimate of time.
DISK_BYTES_PER_S = 500e6
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

    @property
    def weight_bytes(self) -> int:
        """Say how much a conversion reads."""
        return sum(self.listing.files[name].size_bytes for name in self.weights)


@dataclass(frozen=True)
class Job:
    """One artifact: what it will be, and the key that tells whether it stands already."""

    format: Format
    options: Any
    planned: Planned
    key: str
    is_up_to_date: bool


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
    model = describe(asked, found)
    jobs = lay_out(asked, found, model)
    missing = [job for job in jobs if not job.is_up_to_date]
    if missing:
        asked.store.sweep()
        require_space(out, sum(job.planned.size_bytes for job in missing) + SPARE_BYTES)
        pinned = fetch(found.listing, hub=asked.hub, progress=asked.progress)
        with open_checkpoint(pinned.folder) as checkpoint:
            architecture = find_architecture(read_config(pinned.folder))
            origins, _ = bind(model.decoder, architecture.NAMING, checkpoint.tensors)
            weights = Weights(checkpoint, origins)
            build(asked, pinned, model, weights, learn(asked, model, weights, missing))
    results = tuple(
        ArtifactResult(
            job.planned.target,
            asked.store.folder(recipe.name, job.planned.target),
            "up to date" if job.is_up_to_date else "built",
            job.planned.size_bytes,
        )
        for job in jobs
    )
    return Converted(results, found.weight_bytes if missing else 0, time.monotonic() - began)


def find(settings: Settings) -> Found:
    """Pin the source and bring everything but the weights."""
    recipe = settings.recipe
    listing = list_source(str(recipe.folder or recipe.model), recipe.revision, hub=settings.hub)
    # Nothing vouches for a folder but its content, so that is read now; what was read before is remembered.
    small = fetch_small(listing, hub=settings.hub, progress=settings.progress)
    pinned = fetch(listing, hub=settings.hub, progress=settings.progress) if listing.folder else small
    names = sorted({*pinned.files, *pinned.pending})
    said_by = pinned.files if listing.folder else listing.files
    digests = {name: said_by[name].blob or "" for name in names}
    return Found(listing, pinned, digests, tuple(small.pending))


def describe(settings: Settings, found: Found) -> Model:
    """Read config.json and the tokenizer: what cannot be converted is refused here, before any weights."""
    recipe, folder = settings.recipe, found.pinned.folder
    config = read_config(folder)
    decoder = find_architecture(config).describe(config)
    tokenizer = load_tokenizer(folder, config.text("model_type"), config.values, decoder.vocab_size)
    card, fault = front_matter(folder)
    generation = (
        read_config(folder, "generation_config.json").values
        if (folder / "generation_config.json").is_file()
        else {}
    )
    return Model(
        title=found.listing.repo.rpartition("/")[2] if found.listing.repo else recipe.name,
        repo=found.listing.repo,
        decoder=decoder,
        tokenizer=tokenizer,
        folder=folder,
        card=card,
        generation=generation,
        deviations=tuple(
            Deviation("model", "as the source", "without", what)
            for what in (*decoder.deviations, fault)
            if what
        ),
    )


def lay_out(settings: Settings, found: Found, model: Model) -> tuple[Job, ...]:
    """Plan every file to the byte, and see which artifacts stand already."""
    jobs: list[Job] = []
    formats = registry()
    for name, options in settings.recipe.targets.items():
        format_ = formats[name]
        prepared = format_.prepare(model, options, settings.recipe, None, settings.progress)
        inputs = format_.inputs(options, settings.recipe)
        for target in format_.targets(options):
            key = artifact_key(
                source_digests=found.digests,
                target=target,
                options=format_.target_options(options, target),
                tools=_tools(format_),
                also={"title": model.title, "repo": model.repo, **inputs},
            )
            planned = format_.lay_out(model, options, target, prepared)
            is_up_to_date = settings.store.is_up_to_date(settings.recipe.name, target, key)
            jobs.append(Job(format_, options, planned, key, is_up_to_date))
    return _chosen(jobs, settings.recipe, settings.only)


def learn(settings: Settings, model: Model, weights: Weights, jobs: Iterable[Job]) -> list[Job]:
    """Let each format look at the weights once, and plan again with what it learnt."""
    prepared: dict[int, Any] = {}
    planned: list[Job] = []
    for job in jobs:
        if id(job.options) not in prepared:
            prepared[id(job.options)] = job.format.prepare(
                model, job.options, settings.recipe, weights, settings.progress
            )
        layout = job.format.lay_out(model, job.options, job.planned.target, prepared[id(job.options)])
        planned.append(replace(job, planned=layout))
    return planned


def build(settings: Settings, pinned: Pinned, model: Model, weights: Weights, jobs: list[Job]) -> None:
    """Fill all files of all targets in one pass, digest them, and put each artifact in place whole."""
    recipe = settings.recipe
    legal = {name: (pinned.folder / name).read_bytes() for name in pinned.files if is_legal(name)}
    with ExitStack() as stack:
        outputs: list[engine.Output] = []
        stagings = []
        for job in jobs:
            staging = stack.enter_context(settings.store.stage(recipe.name, job.planned.target, job.key))
            stagings.append(staging)
            outputs += (
                engine.Output(layout, staging.allocate(layout.path, layout.size_bytes))
                for layout in job.planned.layouts
            )
            for name, content in {**legal, **job.planned.files}.items():
                path = staging.path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        total = sum(weights.checkpoint.tensors[origin.name].size_bytes for origin in _used(weights))
        with settings.progress.stage("convert", total) as advance:
            engine.run(
                weights.checkpoint, weights.origins, outputs, threads=settings.threads, advance=advance
            )
        with settings.progress.stage("digest", sum(staging.size_bytes for staging in stagings)) as advance:
            seal(stagings, threads=settings.threads, progress=advance)
        for job, staging in zip(jobs, stagings, strict=True):
            staging.commit(_manifest(settings, pinned, model, job))


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


def _chosen(jobs: list[Job], recipe: Recipe, only: tuple[str, ...]) -> tuple[Job, ...]:
    """Keep what --only names: an artifact, or a format with all of its artifacts."""
    if not only:
        return tuple(jobs)
    names = {job.planned.target for job in jobs} | set(recipe.targets)
    for name in only:
        if name not in names:
            raise UsageFailure(
                f"--only {name}: {recipe.path} has no such target", f"it has: {', '.join(sorted(names))}"
            )
    return tuple(
        job
        for job in jobs
        if job.planned.target in only or any(job.options is recipe.targets.get(name) for name in only)
    )


def _used(weights: Weights) -> Iterable[Any]:
    """Name each source tensor that is read once, however many roles it fills."""
    return {origin.name: origin for origin in weights.origins.values()}.values()


def _tools(format_: Format) -> dict[str, str]:
    return {"modelwright": installed("modelwright"), "numpy": installed("numpy"), **format_.tools()}


def _manifest(settings: Settings, pinned: Pinned, model: Model, job: Job) -> Manifest:
    template = model.tokenizer.chat_template
    return Manifest(
        key=job.key,
        recipe=settings.recipe.text,
        source=SourceRecord(
            repo=pinned.repo,
            commit=pinned.commit,
            files=tuple(
                FileEntry(path=name, size_bytes=digest.size_bytes, sha256=str(digest.sha256))
                for name, digest in pinned.files.items()
            ),
        ),
        target=job.planned.target,
        format=job.planned.target.partition("-")[0],
        options=job.format.target_options(job.options, job.planned.target),
        tools=_tools(job.format),
        tensors=dict(job.planned.encodings),
        deviations=tuple(
            DeviationRecord(**asdict(deviation)) for deviation in (*model.deviations, *job.planned.deviations)
        ),
        licence=licence(dict(model.card)),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
    )

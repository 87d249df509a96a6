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
class Wanted:
    """One artifact to be, and the key that tells whether it stands already."""

    format: Format
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
        asked.store.sweep()
        require_space(out, sum(job.planned.size_bytes for job in jobs) + SPARE_BYTES)
        pinned = fetch(found.listing, hub=asked.hub, progress=asked.progress)
        with open_checkpoint(pinned.folder) as checkpoint:
            architecture = find_architecture(read_config(pinned.folder))
            origins, _ = bind(model.decoder, architecture.NAMING, checkpoint.tensors)
            weights = Weights(checkpoint, origins)
            build(asked, pinned, model, weights, learn(asked, model, weights, jobs))
    return Converted(
        tuple(_result(asked, each) for each in wanted),
        found.weight_bytes if missing else 0,
        time.monotonic() - began,
    )


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
    return Found(listing, pinned, digests, tuple(small.pending))


def describe(settings: Settings, found: Found) -> Model:
    """Read config.json and the tokenizer: what cannot be converted is refused here, before any weights."""
    folder = found.pinned.folder
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
        title=_title(settings.recipe, found),
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


def choose(settings: Settings, found: Found) -> tuple[Wanted, ...]:
    """Name the artifacts that are asked for, and see which of them stand already."""
    recipe, formats = settings.recipe, registry()
    wanted: list[Wanted] = []
    for name, options in recipe.targets.items():
        format_ = formats[name]
        inputs = format_.inputs(options, recipe)
        for target in format_.targets(options):
            key = artifact_key(
                source_digests=found.digests,
                target=target,
                options=format_.target_options(options, target),
                tools=_tools(format_),
                also={"title": _title(recipe, found), "repo": found.listing.repo, **inputs},
            )
            is_up_to_date = settings.store.is_up_to_date(recipe.name, target, key)
            wanted.append(Wanted(format_, options, target, key, is_up_to_date))
    return _chosen(wanted, recipe, settings.only)


def lay_out(settings: Settings, model: Model, wanted: Iterable[Wanted]) -> list[Job]:
    """Plan every file to the byte."""
    prepared: dict[int, Any] = {}
    jobs: list[Job] = []
    for each in wanted:
        format_, options = each.format, each.options
        if id(options) not in prepared:
            prepared[id(options)] = format_.prepare(model, options, settings.recipe)
        ready = prepared[id(options)]
        jobs.append(Job(each, ready, format_.lay_out(model, options, each.target, ready)))
    return jobs


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


def build(settings: Settings, pinned: Pinned, model: Model, weights: Weights, jobs: list[Job]) -> None:
    """Fill all files of all targets in one pass, digest them, and put each artifact in place whole."""
    recipe = settings.recipe
    legal = {name: (pinned.folder / name).read_bytes() for name in pinned.files if is_legal(name)}
    with ExitStack() as stack:
        outputs: list[engine.Output] = []
        stagings = []
        for job in jobs:
            staging = stack.enter_context(
                settings.store.stage(recipe.name, job.wanted.target, job.wanted.key)
            )
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


def _title(recipe: Recipe, found: Found) -> str:
    """Name the model: a folder's own name stays out, so that its bytes do not depend on where it lies."""
    return found.listing.repo.rpartition("/")[2] if found.listing.repo else recipe.name


def _chosen(wanted: list[Wanted], recipe: Recipe, only: tuple[str, ...]) -> tuple[Wanted, ...]:
    """Keep what --only names: an artifact, or a format with all of its artifacts."""
    if not only:
        return tuple(wanted)
    names = {each.target for each in wanted} | set(recipe.targets)
    for name in only:
        if name not in names:
            raise UsageFailure(
                f"--only {name}: {recipe.path} has no such target", f"it has: {', '.join(sorted(names))}"
            )
    asked_options = [recipe.targets[name] for name in only if name in recipe.targets]
    return tuple(
        each
        for each in wanted
        if each.target in only or any(each.options is options for options in asked_options)
    )


def _result(settings: Settings, wanted: Wanted) -> ArtifactResult:
    manifest = settings.store.standing(settings.recipe.name, wanted.target)
    return ArtifactResult(
        wanted.target,
        settings.store.folder(settings.recipe.name, wanted.target),
        "up to date" if wanted.is_up_to_date else "built",
        manifest.size_bytes if manifest else 0,
    )


def _used(weights: Weights) -> Iterable[Any]:
    """Name each source tensor that is read once, however many roles it fills."""
    return {origin.name: origin for origin in weights.origins.values()}.values()


def _tools(format_: Format) -> dict[str, str]:
    return {"modelwright": installed("modelwright"), "numpy": installed("numpy"), **format_.tools()}


def _manifest(settings: Settings, pinned: Pinned, model: Model, job: Job) -> Manifest:
    template = model.tokenizer.chat_template
    return Manifest(
        key=job.wanted.key,
        recipe=settings.recipe.text,
        source=SourceRecord(
            repo=pinned.repo,
            commit=pinned.commit,
            files=tuple(
                FileEntry(path=name, size_bytes=digest.size_bytes, sha256=str(digest.sha256))
                for name, digest in pinned.files.items()
            ),
        ),
        target=job.wanted.target,
        format=job.wanted.target.partition("-")[0],
        options=job.wanted.format.target_options(job.wanted.options, job.wanted.target),
        tools=_tools(job.wanted.format),
        tensors=dict(job.planned.encodings),
        deviations=tuple(
            DeviationRecord(**asdict(deviation)) for deviation in (*model.deviations, *job.planned.deviations)
        ),
        licence=licence(dict(model.card)),
        chat_template_sha256=hashlib.sha256(template.encode()).hexdigest() if template else None,
    )

"""The frozen values that the stages hand on: what a person asked for, and what each stage has added."""

from __future__ import annotations

import time
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from convert.progress import Progress, Silent
from convert.recipe import Verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from convert.calibration import Source as Texts
    from convert.checkpoint.adapter import Adapter
    from convert.formats.base import Format, Planned
    from convert.model.family import Family
    from convert.model.source import Model
    from convert.pipeline.result import Converted, Plan
    from convert.publish.bundle import Bundle
    from convert.publish.destination import Destination, Sent, Survey
    from convert.recipe import Publish, Recipe, Target
    from convert.source import Hub, Listing, Pinned
    from convert.source.shards import Absent
    from convert.store import Manifest, Remote, Store
    from convert.writer.share import Part
    from verify.report import Report
    from verify.task import Plan as Questions
    from verify.task import Subject, Watch


def _unwatched(_names: Sequence[str]) -> AbstractContextManager[Watch]:
    from verify.task import Silence  # noqa: PLC0415 - nothing of `verify` is needed to plan or convert

    return nullcontext(Silence())


# A field that a later stage sets; no stage reads what none before it has set.
NOT_YET: Any = None


@dataclass(frozen=True)
class PinnedSource:
    """The source at one commit: its small files here, and the digest of each file that will be read."""

    listing: Listing
    small: Pinned
    weights: tuple[str, ...]
    texts: Texts | None = None  # what the targets that learn will learn from
    digests: Mapping[str, str] | None = None  # None until a folder's weights have been read for them

    @property
    def weight_bytes(self) -> int:
        """Add up how much a conversion reads."""
        return sum(self.listing.files[name].size_bytes for name in self.weights)


@dataclass(frozen=True)
class Wanted:
    """One artifact to be built, and the key that decides whether it is up to date."""

    target: Target
    format: Format[Any, Any]
    key: str  # empty in a plan where no artifact is there, for which no weights are read
    is_up_to_date: bool


@dataclass(frozen=True)
class Job:
    """One artifact to build, planned to the byte."""

    wanted: Wanted
    shared: Any  # what the format shares between its targets
    planned: Planned

    @property
    def name(self) -> str:
        """Name the artifact."""
        return self.wanted.target.name


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Artifacts on their way to a verdict, whoever made them."""

    hub: Hub
    threads: int | None = None
    progress: Progress = field(default_factory=Silent)
    remark: Callable[[str], None] = lambda _: None  # hears at once what a person should know
    # Gets the artifacts' names, and opens what shows how their verification goes on.
    watching: Callable[[Sequence[str]], AbstractContextManager[Watch]] = _unwatched
    began_s: float = field(default_factory=time.monotonic)
    resources: ExitStack = field(default_factory=ExitStack)  # is closed after the last stage

    recipe: Recipe | None = None
    verify: Verify = field(default_factory=Verify)
    base: Path  # that the paths in `verify` start from
    report_folder: Path | None
    # In place of those in `verify`:
    packs: Sequence[str] = ()
    tasks: Sequence[str] = ()
    texts: Sequence[str] = ()
    text: Path | None = None
    runtime: str | None = None
    serve: str | None = None  # the server to start
    budget: str | None = None
    load: str | None = None  # the profile of a load
    concurrency: Sequence[int] = ()
    attests: bool = False  # an attestation of the verification is wanted
    measures: Literal["all", "quality", "speed"] = "all"

    subjects: tuple[Subject, ...] = ()
    listing: Listing = NOT_YET
    adapter_listing: Listing | None = None
    questions: Questions = NOT_YET
    files: Pinned = NOT_YET  # all of the source
    absent: Mapping[str, Absent] = field(default_factory=dict)  # shards that are fetched when they are read
    adapter: Pinned | None = None  # the LoRA adapter that is merged into it
    report: Report = NOT_YET
    digests: Mapping[str, Mapping[str, str]] = NOT_YET  # of what is judged, if that is to be attested
    attestation: Path | None = None
    page: Path | None = None  # where the report was written for people


AnyTrial = TypeVar("AnyTrial", bound=Trial)


@dataclass(frozen=True, kw_only=True)
class Run(Trial):
    """A recipe on its way through the stages."""

    recipe: Recipe
    store: Store
    remote: Remote | None = None  # that other machines see, too
    only: Sequence[str] = ()
    to: str | None = None  # in place of the recipe's publish.to
    is_dry: bool = False
    part: Part | None = None  # that is made of every artifact; None for the whole

    targets: tuple[Target, ...] = NOT_YET
    source: PinnedSource = NOT_YET
    described_core_s: float = NOT_YET  # used of a core before the model was described
    wanted: tuple[Wanted, ...] = NOT_YET
    pending: tuple[Wanted, ...] = NOT_YET  # those of them that are to be planned
    model: Model = NOT_YET
    lora: Adapter | None = None  # the adapter, open
    family: Family = NOT_YET
    jobs: tuple[Job, ...] = ()
    plan: Plan = NOT_YET
    converted: Converted = NOT_YET

    publish: Publish = NOT_YET
    destination: Destination = NOT_YET
    is_reachable: bool = True  # False in a dry run that cannot look there
    user: str = NOT_YET
    bundles: tuple[Bundle, ...] = NOT_YET
    surveys: tuple[Survey | None, ...] = ()
    published: tuple[Sent, ...] = ()

    def current(self, target: str) -> Manifest | None:
        """Read the manifest of an artifact, wherever it is."""
        if self.remote is not None and (found := self.remote.manifest(self.recipe.name, target)):
            return found[1]
        return self.store.current(self.recipe.name, target)

    @property
    def title(self) -> str:
        """Name the model; the name of a folder is left out, so that bytes do not depend on where it is."""
        return self.repo.rpartition("/")[2] if self.repo else self.recipe.name

    @property
    def repo(self) -> str | None:
        """Name the repo that the model is known by: with an adapter, the adapter's."""
        return (self.adapter or self.listing).repo

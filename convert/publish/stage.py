"""The stages of a publication: gather what may be published, survey where it goes, send it, read it back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.model.card import front_matter
from convert.publish import card, provenance
from convert.publish.assembly import Makers, Others, assemble
from convert.publish.bundle import README
from convert.publish.destination import Moved
from convert.publish.existing import Existing, find_existing
from convert.publish.gate import check_waivers, examine
from convert.recipe import choose, cli_name
from convert.source import fetch_small, list_source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from convert.progress import Progress
    from convert.publish.bundle import Bundle
    from convert.publish.destination import Destination, Sent, Survey
    from convert.recipe import Publish, Recipe
    from convert.source import Hub
    from convert.store import Manifest, Store


@dataclass(frozen=True)
class Settings:
    """What to publish, and how."""

    recipe: Recipe
    wanted: Publish
    store: Store
    hub: Hub
    progress: Progress
    only: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """Return the folder of the recipe's artifacts."""
        return self.store.root / self.recipe.name


@dataclass(frozen=True)
class Published:
    """One repo that was published and read back."""

    bundle: Bundle
    sent: Sent


@dataclass(frozen=True)
class Gathered:
    """The repos to publish, and the state of each that they were made for."""

    bundles: tuple[Bundle, ...]
    heads: Mapping[str, str | None] = field(default_factory=dict)  # by repo; none where nobody looked


def gather(settings: Settings, user: str, destination: Destination | None) -> Gathered:
    """Make the repos of the recipe's artifacts, if all of them may be published."""
    signer = provenance.signer_from_environment()
    if settings.wanted.signed and signer is None:
        raise Failure(
            "publish.signed: there is no key to sign with",
            f"set {provenance.KEY_VARIABLE} to the file of an Ed25519 key, or leave `signed` out",
        )
    recipe, folder = settings.recipe, settings.folder
    targets, every = choose(recipe, settings.only), choose(recipe)
    check_waivers(recipe, [each.name for each in every])
    left_out = [each for each in every if each not in targets]
    report, candidates = examine(recipe, targets, folder, progress=settings.progress)
    existing = Existing()
    if destination is not None:
        existing = find_existing(settings, user, destination, candidates, left_out)
    verified = {each.target for each in existing.verified}
    bundles = assemble(
        recipe,
        settings.wanted,
        report,
        (*candidates, *existing.verified),
        user=user,
        source_card=_source_card(settings, candidates[0].manifest),
        makers=Makers(
            attest=lambda candidate, others: provenance.attest(candidate, signer, others),
            render=card.render,
            release=partial(provenance.release, signer=signer),
        ),
        others=Others([each for each in left_out if each.name not in verified], existing.kept),
    )
    return Gathered(bundles, existing.heads)


def survey(gathered: Gathered, destination: Destination) -> tuple[Survey, ...]:
    """Survey every repo before any is sent; change nothing."""
    surveys = tuple(destination.survey(bundle) for bundle in gathered.bundles)
    for bundle, found in zip(gathered.bundles, surveys, strict=True):
        if found.head != gathered.heads[bundle.repo]:  # the card describes what was there before
            raise Moved(found.place)
    return surveys


def publish(
    bundles: Sequence[Bundle], surveys: Sequence[Survey], destination: Destination, progress: Progress
) -> tuple[Published, ...]:
    """Send each repo, and read it back."""
    done = []
    for bundle, surveyed in zip(bundles, surveys, strict=True):
        sent = destination.send(bundle, surveyed, progress)
        destination.read_back(bundle, sent, progress)
        done.append(Published(bundle, sent))
    return tuple(done)


def _source_card(settings: Settings, manifest: Manifest) -> dict[str, Any]:
    """Read the front matter of the card that the source had when it was converted."""
    source, recipe = manifest.source, settings.recipe
    if source.repo is not None and source.commit is not None:
        listing = list_source(source.repo, source.commit, hub=settings.hub)
        folder = fetch_small(listing, hub=settings.hub, progress=settings.progress).folder
    elif recipe.folder is not None:
        folder = recipe.folder
    else:
        raise Failure(
            f"{recipe.path}: the artifacts were built from another source",
            f"modelwright convert {cli_name(recipe.path)}",
        )
    recorded = {entry.path: entry.sha256 for entry in source.files}.get(README)
    file = folder / README
    if recorded != (hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None):
        raise Failure(
            f"{file}: changed since the artifacts were built",
            f"modelwright convert {cli_name(recipe.path)}",
        )
    content, _ = front_matter(folder)  # a fault in it is among the deviations already
    return content

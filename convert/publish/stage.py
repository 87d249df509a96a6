"""The stages of a publication: gather what may go out, look at where it goes, send it, read it back."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from convert.errors import Failure
from convert.model.card import front_matter
from convert.publish import card, provenance
from convert.publish.assembly import Makers, assemble
from convert.publish.destination import Moved
from convert.publish.existing import Beside, Search
from convert.publish.gate import Asked, check_waivers, examine
from convert.publish.repo import Member
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

_CARD = "README.md"


@dataclass(frozen=True)
class Settings:
    """What the person asked for."""

    recipe: Recipe
    wanted: Publish
    store: Store
    hub: Hub
    progress: Progress
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Published:
    """One repo that stands, and was read back."""

    bundle: Bundle
    sent: Sent


@dataclass(frozen=True)
class Gathered:
    """The repos that are to stand, and what stood there when they were thought of."""

    bundles: tuple[Bundle, ...]
    heads: Mapping[str, str | None] = field(default_factory=dict)  # by repo; none where nothing was looked at


def gather(settings: Settings, user: str, place: Destination | None) -> Gathered:
    """The repos that the recipe's artifacts make, where all of them may go out."""
    signer = provenance.signer_from_environment()
    if settings.wanted.signed and signer is None:
        raise Failure(
            "publish.signed: there is no key to sign with",
            f"set {provenance.KEY_VARIABLE} to the file of an Ed25519 key, or leave `signed` out",
        )
    recipe, folder = settings.recipe, settings.store.root / settings.recipe.name
    going = asked(settings)
    targets = {each.target for each in going}
    every = asked(replace(settings, only=()))
    check_waivers(recipe, [each.target for each in every])
    left_out = [each for each in every if each.target not in targets]
    report, candidates = examine(recipe, going, folder, progress=settings.progress)
    beside = Beside()
    if place is not None:
        search = Search(recipe, settings.wanted, user, folder, settings.progress)
        beside = search.run(place, candidates, left_out)
    joining = {each.target for each in beside.joining}
    bundles = assemble(
        recipe,
        settings.wanted,
        report,
        (*candidates, *beside.joining),
        user=user,
        source_card=_source_card(settings, candidates[0].manifest),
        makers=Makers(
            attest=partial(provenance.attest, signer=signer),
            render=card.render,
            release=partial(provenance.release, signer=signer),
        ),
        left_out=[Member.asked(each) for each in left_out if each.target not in joining],
        kept=beside.kept,
    )
    return Gathered(bundles, beside.heads)


def asked(settings: Settings) -> tuple[Asked, ...]:
    """List the recipe's artifacts, or those of them that --only names."""
    recipe = settings.recipe
    return tuple(
        Asked(each.name, settings.store.folder(recipe.name, each.name), each.own_options)
        for each in choose(recipe, settings.only)
    )


def survey(gathered: Gathered, place: Destination) -> tuple[Survey, ...]:
    """What stands there, of every repo before any is sent; changes nothing."""
    surveys = tuple(place.survey(bundle) for bundle in gathered.bundles)
    for bundle, found in zip(gathered.bundles, surveys, strict=True):
        if found.head != gathered.heads[bundle.repo]:  # the card tells of what stood there before
            raise Moved(found.place)
    return surveys


def publish(
    bundles: Sequence[Bundle], surveys: Sequence[Survey], place: Destination, progress: Progress
) -> tuple[Published, ...]:
    """Send each repo, and read it back."""
    done = []
    for bundle, surveyed in zip(bundles, surveys, strict=True):
        sent = place.send(bundle, surveyed, progress)
        place.read_back(bundle, sent, progress)
        done.append(Published(bundle, sent))
    return tuple(done)


def _source_card(settings: Settings, manifest: Manifest) -> dict[str, Any]:
    """The front matter of the card that the source had when it was read."""
    source, recipe = manifest.source, settings.recipe
    if source.repo is not None and source.commit is not None:
        listing = list_source(source.repo, source.commit, hub=settings.hub)
        folder = fetch_small(listing, hub=settings.hub, progress=settings.progress).folder
    elif recipe.folder is not None:
        folder = recipe.folder
    else:
        raise Failure(
            f"{recipe.path}: the artifacts come from elsewhere",
            f"modelwright convert {cli_name(recipe.path)}",
        )
    recorded = {entry.path: entry.sha256 for entry in source.files}.get(_CARD)
    if recorded != _sha256(folder / _CARD):
        raise Failure(
            f"{folder / _CARD}: changed since the artifacts were built",
            f"modelwright convert {cli_name(recipe.path)}",
        )
    content, _ = front_matter(folder)  # what is wrong with it is among the deviations already
    return content


def _sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None

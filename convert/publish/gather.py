"""Gather what may be published: artifacts that passed, as repos with every file."""

import hashlib
from functools import partial
from typing import Any

from convert.errors import Failure
from convert.model.card import front_matter
from convert.publish import card
from convert.publish.assembly import Makers, assemble
from convert.publish.bundle import README, Bundle
from convert.publish.existing import find_existing
from convert.publish.gate import check_waivers, examine
from convert.publish.provenance.key import KEY_VARIABLE, signer_from_environment
from convert.publish.provenance.statement import attest, release
from convert.publish.publication import Publication
from convert.recipe import choose, cli_name
from convert.source import fetch_small, list_source
from convert.store import Manifest


def gather(publication: Publication) -> tuple[Bundle, ...]:
    """Make the repos of the artifacts, if all of them may be published."""
    signer = signer_from_environment()
    recipe, wanted = publication.recipe, publication.wanted
    if wanted.signed and signer is None:
        raise Failure(
            "publish.signed: there is no key to sign with",
            f"set {KEY_VARIABLE} to the file of an Ed25519 key, or leave `signed` out",
        )
    every = choose(recipe)
    check_waivers(recipe, [each.name for each in every])
    left_out = [each for each in every if each not in publication.targets]
    report, candidates = examine(
        recipe, publication.targets, publication.folder, progress=publication.progress
    )
    existing = find_existing(publication, candidates, left_out)
    verified = {each.target for each in existing.verified}
    return assemble(
        recipe,
        wanted,
        report,
        (*candidates, *existing.verified),
        user=publication.user,
        source_card=_source_card(publication, candidates[0].manifest),
        makers=Makers(
            attest=lambda candidate, others: attest(candidate, signer, others),
            render=card.render,
            release=partial(release, signer=signer),
        ),
        left_out=[each for each in left_out if each.name not in verified],
        existing=existing,
    )


def _source_card(publication: Publication, manifest: Manifest) -> dict[str, Any]:
    """Read the front matter of the card that the source had when it was converted."""
    source, recipe, pinned = manifest.source, publication.recipe, publication.source
    again = f"modelwright convert {cli_name(recipe.path)}"
    if pinned is not None and (pinned.repo, pinned.commit) == (source.repo, source.commit):
        folder = pinned.folder
    elif source.repo is not None and source.commit is not None:
        listing = list_source(source.repo, source.commit, hub=publication.hub)
        folder = fetch_small(listing, hub=publication.hub, progress=publication.progress).folder
    elif recipe.folder is not None:
        folder = recipe.folder
    else:
        raise Failure(f"{recipe.path}: the artifacts were built from another source", again)
    recorded = {entry.path: entry.sha256 for entry in source.files}.get(README)
    file = folder / README
    if recorded != (hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None):
        raise Failure(f"{file}: changed since the artifacts were built", again)
    content, _ = front_matter(folder)  # a fault in it is among the deviations already
    return content

"""Gather what may be published: artifacts that passed, as repos with every file."""

import hashlib
from functools import partial
from pathlib import Path

from convert.errors import Failure
from convert.model.card import front_matter
from convert.pick.known import find_model
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
            f"set {KEY_VARIABLE} to the file of a private key, or leave `signed` out",
        )
    every = choose(recipe)
    check_waivers(recipe, [each.name for each in every])
    left_out = [each for each in every if each not in publication.targets]
    report, candidates = examine(
        recipe, publication.targets, publication.folder, progress=publication.progress
    )
    existing = find_existing(publication, candidates, left_out)
    source = _source(publication, candidates[0].manifest)
    verified = {each.target for each in existing.verified}
    return assemble(
        recipe,
        wanted,
        report,
        (*candidates, *existing.verified),
        user=publication.user,
        source_card=front_matter(source)[0],  # a fault in it is among the deviations already
        makers=Makers(
            attest=lambda candidate, others: attest(candidate, signer, others),
            render=card.render,
            release=partial(release, signer=signer),
        ),
        left_out=[each for each in left_out if each.name not in verified],
        existing=existing,
        origin_of=publication.origin_of,
        model=find_model(str(source), Path()),
    )


def _source(publication: Publication, manifest: Manifest) -> Path:
    """Find the source's small files, its card among them as it was when the source was converted."""
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
    return folder

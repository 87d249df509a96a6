"""What goes out beside an artifact, and beside a repo as a whole, to vouch for each."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from convert.publish.provenance.bom import bill_of_materials
from convert.publish.provenance.envelope import seal
from convert.publish.provenance.statement import provenance, release_of
from convert.store import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

    from convert.publish.bundle import Bundle, Candidate
    from convert.publish.provenance.key import Signer

PROVENANCE_NAME = "provenance.intoto.json"
BOM_NAME = "bom.cdx.json"
RELEASE_NAME = "release.intoto.json"


def attest(
    candidate: Candidate, signer: Signer | None, others: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Make the provenance and the bill of materials of one artifact, by name, for its documents' folder.

    The `others` there, by name, are vouched for as well.
    """
    bom = bill_of_materials(candidate)
    subjects = {candidate.shipped_path(entry.path): entry.sha256 for entry in candidate.manifest.files}
    subjects[f"{candidate.documents}{MANIFEST_NAME}"] = candidate.manifest_sha256
    for name, data in {BOM_NAME: bom, **(others or {})}.items():
        subjects[f"{candidate.documents}{name}"] = hashlib.sha256(data).hexdigest()
    return {PROVENANCE_NAME: seal(provenance(candidate.manifest, subjects), signer), BOM_NAME: bom}


def release(bundle: Bundle, signer: Signer | None) -> dict[str, bytes]:
    """Make the list of all other files of the repo, so that none can be changed or added unnoticed."""
    subjects = {file.path: file.sha256 for file in bundle.files}
    return {RELEASE_NAME: seal(release_of(bundle.repo, subjects), signer)}

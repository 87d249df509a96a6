"""Attest what is published: in-toto statements, signed if there is a key, and a bill of materials.

`attest` makes them for one artifact, `release` for a repo as a whole, which goes in last; `examine` checks
them in a folder, wherever it was downloaded to.
"""

from convert.publish.provenance.check import Verified, examine
from convert.publish.provenance.envelope import signed_by
from convert.publish.provenance.key import KEY_VARIABLE, PASSPHRASE_VARIABLE, signer_from_environment
from convert.publish.provenance.statement import BOM_NAME, PROVENANCE_NAME, RELEASE_NAME, attest, release

__all__ = [
    "BOM_NAME",
    "KEY_VARIABLE",
    "PASSPHRASE_VARIABLE",
    "PROVENANCE_NAME",
    "RELEASE_NAME",
    "Verified",
    "attest",
    "examine",
    "release",
    "signed_by",
    "signer_from_environment",
]

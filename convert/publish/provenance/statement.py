"""in-toto statements of builds and releases; with no time, host or path, a rerun makes the same."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from convert.publish.bundle import Bundle, Candidate
from convert.publish.provenance.bom import PROJECT, bill_of_materials, source_purl, tool_purl
from convert.publish.provenance.envelope import STATEMENT_TYPE, seal, seal_bundle
from convert.publish.provenance.key import Signer
from convert.store import ADAPTER_FOLDER, MANIFEST_NAME, Manifest, SourceRecord

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
RELEASE_TYPE = "https://model_signing/signature/v1.0"  # OpenSSF's Model Signing

# How externalParameters are to be read; another meaning would be another number.
BUILD_TYPE = "urn:modelwright:convert:1"
# Built where the signer was, on a machine that says nothing of itself: no more is claimed.
BUILDER = "urn:modelwright:local"

PROVENANCE_NAME = "provenance.intoto.json"
BOM_NAME = "bom.cdx.json"
RELEASE_NAME = "model.sig"
# Of no release: the signature itself, and what the Hub's tools and other destinations put next to its files.
NOT_RELEASED = (".cache", ".git", ".gitattributes", ".github", ".gitignore", "published.json", RELEASE_NAME)


def attest(
    candidate: Candidate, signer: Signer | None, others: Mapping[str, bytes] | None = None
) -> dict[str, bytes]:
    """Make the provenance and the bill of materials of one artifact, by name, for its documents' folder.

    It names the `others` there too.
    """
    bom = bill_of_materials(candidate)
    subjects = {candidate.shipped_path(entry.path): entry.sha256 for entry in candidate.manifest.files}
    subjects[f"{candidate.documents}{MANIFEST_NAME}"] = candidate.manifest_sha256
    for name, data in {BOM_NAME: bom, **(others or {})}.items():
        subjects[f"{candidate.documents}{name}"] = hashlib.sha256(data).hexdigest()
    return {PROVENANCE_NAME: seal(provenance_of(candidate.manifest, subjects), signer), BOM_NAME: bom}


def release(bundle: Bundle, signer: Signer | None) -> dict[str, bytes]:
    """Sign the list of all other files of the repo, so that none can be changed or added unnoticed.

    There is none without a key: Model Signing has no unsigned form.
    """
    subjects = {file.path: file.sha256 for file in bundle.files}
    return {RELEASE_NAME: seal_bundle(release_of(bundle.repo, subjects), signer)} if signer else {}


def provenance_of(manifest: Manifest, subjects: Mapping[str, str]) -> dict[str, Any]:
    """Make the SLSA provenance of one artifact, whose files are the subjects: path in the repo to sha256."""
    tools = manifest.tools
    return _statement(
        subjects,
        PROVENANCE_TYPE,
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": manifest.recipe,
                    "target": manifest.target,
                    "options": manifest.options,
                },
                "internalParameters": {"key": manifest.key},
                "resolvedDependencies": [
                    *_source(manifest.source),
                    *(_source(manifest.adapter, ADAPTER_FOLDER) if manifest.adapter else ()),
                    *({"name": tool, "uri": tool_purl(tool, tools[tool])} for tool in sorted(tools)),
                ],
            },
            "runDetails": {"builder": {"id": BUILDER, "version": {PROJECT: tools.get(PROJECT, "unknown")}}},
        },
    )


def release_of(name: str, subjects: Mapping[str, str]) -> dict[str, Any]:
    """List what a repo consists of; its subject is the digest of all digests, as no commit is known yet."""
    paths = sorted(subjects)
    root = hashlib.sha256(bytes.fromhex("".join(subjects[path] for path in paths))).hexdigest()
    serialization = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    return _statement(
        {name: root},
        RELEASE_TYPE,
        {
            "serialization": {**serialization, "ignore_paths": list(NOT_RELEASED)},
            "resources": [{"name": path, "algorithm": "sha256", "digest": subjects[path]} for path in paths],
        },
    )


def _statement(subjects: Mapping[str, str], kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": path, "digest": {"sha256": subjects[path]}} for path in sorted(subjects)],
        "predicateType": kind,
        "predicate": predicate,
    }


def _source(source: SourceRecord, where: str = "") -> Iterator[dict[str, Any]]:
    """List every file that was read, by its digest and, if it is from a repo, by its address there."""
    purl = source_purl(source)
    for entry in source.files:
        described: dict[str, Any] = {"name": f"{where}{entry.path}", "digest": {"sha256": entry.sha256}}
        if purl:
            described["uri"] = f"{purl}#{quote(entry.path, safe='/')}"
        yield described

"""in-toto statements: how an artifact came about (SLSA provenance), and what a release consists of.

Neither tells a time, a host or a path: a rerun, here or elsewhere, says the same.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from convert.publish.provenance.envelope import STATEMENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from convert.store import Manifest, SourceRecord

PROVENANCE_TYPE = "https://slsa.dev/provenance/v1"
RELEASE_TYPE = "https://in-toto.io/attestation/release/v0.2"

# How externalParameters are to be read; another meaning would be another number.
BUILD_TYPE = "urn:modelwright:convert:1"
# Built where the signer was, on a machine that says nothing of itself: no more is claimed.
BUILDER = "urn:modelwright:local"

PROJECT = "modelwright"


def provenance(manifest: Manifest, subjects: Mapping[str, str]) -> dict[str, Any]:
    """SLSA provenance of one artifact, whose files are the subjects: path in the repo to sha256."""
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
                "resolvedDependencies": [*_source(manifest.source), *_tools(manifest.tools)],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {PROJECT: manifest.tools.get(PROJECT, "unknown")}}
            },
        },
    )


def release_of(name: str, subjects: Mapping[str, str]) -> dict[str, Any]:
    """What a repo consists of; its version is the digest of all its files, for a commit is not known yet."""
    listed = "".join(f"{subjects[path]}  {path}\n" for path in sorted(subjects))
    version = hashlib.sha256(listed.encode()).hexdigest()
    purl = f"pkg:generic/{quote(name, safe='/')}@{version}"
    return _statement(subjects, RELEASE_TYPE, {"purl": purl})


def tool_purl(name: str, version: str) -> str:
    """A tool's package URL; this program is no one's package but its own."""
    kind = "generic" if name == PROJECT else "pypi"
    return f"pkg:{kind}/{quote(name.lower().replace('_', '-'))}@{quote(version)}"


def source_purl(source: SourceRecord) -> str | None:
    """The source's package URL; None of a local folder."""
    if source.repo is None:
        return None
    commit = f"@{source.commit}" if source.commit else ""
    return f"pkg:huggingface/{quote(source.repo, safe='/')}{commit}"


def _statement(subjects: Mapping[str, str], kind: str, predicate: dict[str, Any]) -> dict[str, Any]:
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": path, "digest": {"sha256": subjects[path]}} for path in sorted(subjects)],
        "predicateType": kind,
        "predicate": predicate,
    }


def _source(source: SourceRecord) -> Iterator[dict[str, Any]]:
    """Every file that was read, by its digest; of a repo also where it comes from, at the commit."""
    purl = source_purl(source)
    for entry in source.files:
        described: dict[str, Any] = {"name": entry.path, "digest": {"sha256": entry.sha256}}
        if purl:
            described["uri"] = f"{purl}#{quote(entry.path, safe='/')}"
        yield described


def _tools(tools: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for name in sorted(tools):
        yield {"name": name, "uri": tool_purl(name, tools[name])}

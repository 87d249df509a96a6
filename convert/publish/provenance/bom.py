"""A bill of materials in CycloneDX 1.6, with the model as a machine-learning-model component."""

import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import quote

from convert.deviation import sentence
from convert.publish.bundle import Candidate
from convert.store import FileEntry, Manifest, SourceRecord

# Written as plain JSON: cyclonedx-python-lib 11.12 has no model card, and seven packages come with it.
PROJECT = "modelwright"
SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"

# Of this program's bills of materials: each is named after the manifest that it describes.
_NAMESPACE = uuid.UUID("6c3f1d0e-2f5b-5d3c-9a53-5a4f5b3f7f51")
_MODEL, _SOURCE = "model", "source"

# The Hub's names of licenses, and SPDX's; any other license goes by its own name.
_SAME_BUT_CASE = (
    "Apache-2.0 BSD-2-Clause BSD-3-Clause CC-BY-4.0 CC-BY-NC-4.0 CC-BY-NC-SA-4.0 CC-BY-SA-4.0 CC0-1.0 ISC MIT"
    " MPL-2.0 Unlicense WTFPL"
)
_SPDX = {name.lower(): name for name in _SAME_BUT_CASE.split()} | {
    "bsd": "BSD-3-Clause",
    **{f"{name}-3.0": f"{name.upper()}-3.0-only" for name in ("gpl", "agpl", "lgpl")},
}


def bill_of_materials(candidate: Candidate) -> bytes:
    """List what an artifact is made of and by what: the same bytes for the same artifact and report."""
    manifest = candidate.manifest
    content = {
        "$schema": SCHEMA,
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": uuid.uuid5(_NAMESPACE, candidate.manifest_sha256).urn,
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [_tool(name, manifest.tools[name]) for name in sorted(manifest.tools)]},
            "component": _model(candidate),
        },
        "components": [
            {
                **_origin(manifest),
                "bom-ref": _SOURCE,
                "components": _files(manifest.source.files, "source/"),
            },
        ],
        "dependencies": [{"ref": _MODEL, "dependsOn": [_SOURCE]}, {"ref": _SOURCE}],
    }
    text = json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def _model(candidate: Candidate) -> dict[str, Any]:
    manifest = candidate.manifest
    shipped = [
        entry.model_copy(update={"path": candidate.shipped_path(entry.path)}) for entry in manifest.files
    ]
    return {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": f"{_title(manifest)} ({manifest.target})",
        "version": manifest.key,
        **_licenses(manifest),
        "components": _files(shipped, ""),
        "pedigree": {
            "ancestors": [_origin(manifest)],
            "notes": f"converted to {manifest.format}, tensor by tensor as the manifest says",
        },
        "modelCard": {
            "modelParameters": {
                "task": "text-generation",
                "inputs": [{"format": "text"}],
                "outputs": [{"format": "text"}],
            },
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(candidate))},
            "considerations": {"technicalLimitations": list(_limitations(candidate))},
        },
        "properties": [
            {"name": f"{PROJECT}:format", "value": manifest.format},
            {"name": f"{PROJECT}:target", "value": manifest.target},
            {"name": f"{PROJECT}:options", "value": json.dumps(manifest.options, sort_keys=True)},
        ],
    }


def _origin(manifest: Manifest) -> dict[str, Any]:
    """Describe the model that it was made from."""
    described = {"version": manifest.source.commit, "purl": source_purl(manifest.source)}
    return {
        "type": "machine-learning-model",
        "name": _title(manifest),
        **_licenses(manifest),
        **{key: value for key, value in described.items() if value},
    }


def _title(manifest: Manifest) -> str:
    return manifest.source.repo or "a local folder"


def _licenses(manifest: Manifest) -> dict[str, Any]:
    if manifest.license is None:
        return {}
    known = _SPDX.get(manifest.license)
    return {"licenses": [{"license": {"id": known} if known else {"name": manifest.license}}]}


def _files(entries: Iterable[FileEntry], where: str) -> list[dict[str, Any]]:
    return [
        {
            "type": "file",
            "bom-ref": f"file:{where}{entry.path}",
            "name": entry.path,
            "hashes": [{"alg": "SHA-256", "content": entry.sha256}],
            "properties": [{"name": f"{PROJECT}:size_bytes", "value": str(entry.size_bytes)}],
        }
        for entry in entries
    ]


def _tool(name: str, version: str) -> dict[str, Any]:
    kind = "application" if name == PROJECT else "library"
    return {"type": kind, "name": name, "version": version, "purl": tool_purl(name, version)}


def _metrics(candidate: Candidate) -> Iterator[dict[str, str]]:
    """List what was measured of it; each value as the report has it."""
    result = candidate.result
    if result.quality:
        for name in ("ppl", "ppl_ratio", "kl_mean", "kl_p99", "top1"):
            yield {"type": name, "value": repr(getattr(result.quality, name))}
    if result.scenarios:
        yield {"type": "smoke", "value": repr(result.scenarios.smoke)}


def _limitations(candidate: Candidate) -> Iterator[str]:
    """List what differs from the recipe, and what is published although it failed."""
    for each in candidate.manifest.deviations:
        yield f"{each.subject}: {sentence(each)}"
    for waiver in candidate.waived:
        yield f"{waiver.gate} was waived: {waiver.reason}"


def tool_purl(name: str, version: str) -> str:
    """Return a tool's package URL; this program is in no package index."""
    kind = "generic" if name == PROJECT else "pypi"
    return f"pkg:{kind}/{quote(name.lower().replace('_', '-'))}@{quote(version)}"


def source_purl(source: SourceRecord) -> str | None:
    """Return the source's package URL; None of a local folder."""
    if source.repo is None:
        return None
    commit = f"@{source.commit}" if source.commit else ""
    return f"pkg:huggingface/{quote(source.repo, safe='/')}{commit}"

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
_MODEL, _SOURCE, _ADAPTER = "model", "source", "adapter"

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
    made_of = _made_of(manifest)
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
            {**_origin(record, license_), "bom-ref": name, "components": _files(record.files, f"{name}/")}
            for name, (record, license_) in made_of.items()
        ],
        "dependencies": [
            {"ref": _MODEL, "dependsOn": list(made_of)},
            *({"ref": name} for name in made_of),
        ],
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
        **_licenses(*(license_ for _, license_ in _made_of(manifest).values())),
        "components": _files(shipped, ""),
        "pedigree": {
            "ancestors": [_origin(*made_of) for made_of in _made_of(manifest).values()],
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


def _made_of(manifest: Manifest) -> dict[str, tuple[SourceRecord, str | None]]:
    """Name the models that it was made from, each with its license."""
    found: dict[str, tuple[SourceRecord, str | None]] = {_SOURCE: (manifest.source, manifest.license)}
    if manifest.adapter:
        found[_ADAPTER] = manifest.adapter, manifest.adapter.license
    return found


def _origin(record: SourceRecord, license_: str | None) -> dict[str, Any]:
    """Describe a model that it was made from."""
    described = {"version": record.commit, "purl": source_purl(record)}
    return {
        "type": "machine-learning-model",
        "name": record.repo or "a local folder",
        **_licenses(license_),
        **{key: value for key, value in described.items() if value},
    }


def _title(manifest: Manifest) -> str:
    return manifest.known_by or "a local folder"


def _licenses(*names: str | None) -> dict[str, Any]:
    given = list(dict.fromkeys(name for name in names if name is not None))
    listed = [{"id": _SPDX[name]} if name in _SPDX else {"name": name} for name in given]
    return {"licenses": [{"license": each} for each in listed]} if listed else {}


def spdx(license_: str) -> str:
    """Return a license's name in SPDX, or the Hub's where SPDX has none."""
    return _SPDX.get(license_, license_)


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

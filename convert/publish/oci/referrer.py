"""What attests an artifact (provenance, bill of materials, signature) as manifests with a subject."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from convert.publish.bundle import ShippedFile
from convert.publish.oci.registry import MANIFEST_TYPE, Registry
from convert.publish.provenance.envelope import BUNDLE_TYPE, signed_by
from convert.publish.provenance.statement import BOM_NAME, PROVENANCE_NAME, PROVENANCE_TYPE, RELEASE_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
# The configuration that the specification has for what needs none.
EMPTY = ShippedFile.made("config", b"{}")
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_PREDICATE = "in-toto.io/predicate-type"


def refer(files: Iterable[ShippedFile], digest: str, size_bytes: int) -> tuple[bytes, ...]:
    """Write the manifests of what attests a manifest; they name layers that it has as well."""
    subject = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": size_bytes}
    return tuple(_referring(file, kind, subject) for file in files if (kind := _kind(file)))


def attach(registry: Registry, digest: str, referrers: Iterable[bytes]) -> None:
    """Push them; where a registry does not list referrers by itself, keep the list that clients look for."""
    unlisted = [data for data in referrers if not registry.put_manifest(digest_of(data), data)]
    if not unlisted:
        return
    tag = digest.replace(":", "-")
    listed = _listed(registry.get_manifest(tag, _INDEX_TYPE))
    for data in unlisted:
        listed[digest_of(data)] = {
            "mediaType": MANIFEST_TYPE,
            "digest": digest_of(data),
            "size": len(data),
            "artifactType": json.loads(data)["artifactType"],
        }
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": list(listed.values())}
    registry.put_manifest(tag, written(index), _INDEX_TYPE)


def descriptor(file: ShippedFile, media_type: str) -> dict[str, Any]:
    """Name a content as manifests do."""
    return {"mediaType": media_type, "digest": f"sha256:{file.sha256}", "size": file.size_bytes}


def are_there(registry: Registry, referrers: Iterable[bytes]) -> bool:
    """Fetch them again."""
    return all(registry.get_manifest(digest_of(data)) == data for data in referrers)


def _kind(file: ShippedFile) -> str | None:
    """Return the type of what attests others; None of any other file."""
    match file.path.rpartition("/")[2]:
        case str(name) if name == PROVENANCE_NAME:
            is_signed = signed_by(file.read()) is not None
            return "application/vnd.dsse.envelope.v1+json" if is_signed else "application/vnd.in-toto+json"
        case str(name) if name == BOM_NAME:
            return "application/vnd.cyclonedx+json"
        case str(name) if name == RELEASE_NAME:
            return BUNDLE_TYPE
    return None


def _referring(file: ShippedFile, kind: str, subject: dict[str, Any]) -> bytes:
    layer = descriptor(file, kind)
    layer["annotations"] = {"org.opencontainers.image.title": file.path}
    if file.path.endswith(PROVENANCE_NAME):
        layer["annotations"][_PREDICATE] = PROVENANCE_TYPE
    return written(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": kind,
            "config": {**descriptor(EMPTY, _EMPTY_TYPE), "data": "e30="},
            "layers": [layer],
            "subject": subject,
        }
    )


def _listed(data: bytes | None) -> dict[str, Any]:
    """Read a list by the digests in it; one that is damaged counts as none, and is written again."""
    return dict(_entries(data)) if data else {}


def _entries(data: bytes) -> Iterator[tuple[str, Any]]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    match content:
        case {"manifests": list(entries)}:
            for entry in entries:
                match entry:
                    case {"digest": str(digest)}:
                        yield digest, entry


def digest_of(data: bytes) -> str:
    """Name a content as registries do."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def written(content: Any) -> bytes:
    """Write a document: the same bytes for the same content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

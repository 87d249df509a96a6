"""A registry of OCI artifacts: every file a layer, as ORAS writes and pulls them; the tags are set last."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from convert.errors import Failure, UsageFailure
from convert.publish.bundle import ShippedFile
from convert.publish.destination import Sent, Standing, Survey
from convert.publish.destinations.blob import CHUNK_BYTES, Push
from convert.publish.destinations.listing import moved, name_of
from convert.publish.destinations.login import Remembered
from convert.publish.destinations.registry import Registry
from convert.source.retry import RetryLimits

if TYPE_CHECKING:
    from collections.abc import Iterable

    from convert.progress import Progress
    from convert.publish.bundle import Bundle

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT_TYPE = "application/vnd.modelwright.model.v1"
_TITLE = "org.opencontainers.image.title"  # what ORAS names a file after

# The configuration that the specification has for what is no image.
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = ShippedFile.made("config", b"{}")

_MEDIA_TYPES = {"json": "application/json", "md": "text/markdown", "png": "image/png"}
_LARGEST_MANIFEST_BYTES = 4 << 20  # what every registry must take
# As on the Hub: smaller files are fetched and hashed, of larger ones the registry's digests are compared.
_FETCHED_BYTES = 1 << 20

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")


@dataclass(frozen=True)
class OciPlace:
    """A destination: a namespace of a registry, with a repository for each repo."""

    host: str
    namespace: str
    retry: RetryLimits = field(default_factory=RetryLimits)
    chunk_bytes: int = CHUNK_BYTES

    def look(self, repo: str, revision: str) -> Standing:
        """See which layers the tag of the newest names."""
        with self._registry(repo) as registry:
            data = registry.get_manifest(newest_tag(revision), MANIFEST_TYPE)
        digests = _titled(data) if data is not None else {}
        return Standing(
            head=_digest(data) if data is not None else None,
            paths=frozenset(digests),
            has=lambda file: digests.get(file.path) == f"sha256:{file.sha256}",
            is_kept=False,
        )

    def describe(self, bundle: Bundle) -> Survey:
        """Look where the tags stand, and which layers the repository lacks."""
        manifest, (*fixed, moving) = manifest_of(bundle), tags_of(bundle)
        with self._registry(bundle.repo) as registry:
            head = registry.head_manifest(moving, MANIFEST_TYPE)
            for tag in fixed:
                standing = registry.head_manifest(tag, MANIFEST_TYPE)
                if standing not in (None, _digest(manifest)):
                    raise Failure(
                        f"{registry.name}: the tag {tag} stands at something else ({standing})",
                        "choose another publish.tag, or remove that one from the registry",
                    )
            missing = tuple(_lacking(registry, _distinct(bundle.files)))
        return Survey(f"oci://{registry.name}", exists=head is not None, head=head, missing=missing)

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Push the layers, then the manifest by its digest, then let the tags name it."""
        manifest, tags = manifest_of(bundle), tags_of(bundle)
        digest = _digest(manifest)
        with self._registry(bundle.repo) as registry:
            if registry.head_manifest(tags[-1], MANIFEST_TYPE) != survey.head:
                raise moved(survey.place)
            missing = _lacking(registry, [*_distinct(bundle.files), _EMPTY])
            sent_bytes = sum(file.size_bytes for file in missing)
            with progress.stage("upload", sent_bytes) as advance:
                for file in missing:
                    Push(registry, file, advance, self.chunk_bytes).run()
            unset = [tag for tag in tags if registry.head_manifest(tag, MANIFEST_TYPE) != digest]
            if unset:
                registry.put_manifest(digest, MANIFEST_TYPE, manifest)
            for tag in unset:
                if tag == tags[-1] and registry.head_manifest(tag, MANIFEST_TYPE) != survey.head:
                    raise moved(survey.place)
                registry.put_manifest(tag, MANIFEST_TYPE, manifest)
        return Sent(survey.place, digest, sent_bytes, is_new=bool(unset or missing))

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Fetch what the tags name and the small layers; of the others compare what the registry says."""
        manifest, files = manifest_of(bundle), _distinct([*bundle.files, _EMPTY])
        fetched = [file for file in files if file.size_bytes <= _FETCHED_BYTES]
        with self._registry(bundle.repo) as registry:
            for tag in tags_of(bundle):
                if registry.get_manifest(tag, MANIFEST_TYPE) != manifest:
                    raise _wrong(f"{sent.place}:{tag}")
            with progress.stage("read back", sum(file.size_bytes for file in fetched)) as advance:
                for file in files:
                    is_there = registry.has_blob(file.sha256, file.size_bytes)
                    if not is_there or (
                        file in fetched and registry.blob_sha256(file.sha256, advance) != file.sha256
                    ):
                        raise _wrong(f"{sent.place}: {file.path}")

    @cached_property
    def _login(self) -> Remembered:
        return Remembered(self.host)

    def _registry(self, repo: str) -> Registry:
        repository = "/".join(part for part in (self.namespace, name_of(repo)) if part).lower()
        if not _REPOSITORY.fullmatch(repository):
            raise UsageFailure(
                f"publish.to: {repository!r} cannot name a repository of a registry",
                "a name is made of letters, digits, and single '.', '_' or '-' between them",
            )
        return Registry(self.host, repository, self._login, self.retry)


def registry_at(address: str) -> OciPlace:
    """The place at an address, its scheme taken off: `registry.example:5000/models`."""
    host, _, namespace = address.rstrip("/").partition("/")
    if not _HOST.fullmatch(host) or (namespace and not _REPOSITORY.fullmatch(namespace.lower())):
        raise UsageFailure(
            f"publish.to: oci://{address} is no place in a registry",
            "write oci://registry.example/models; the repo's name and its tag follow by themselves",
        )
    return OciPlace(host, namespace)


def manifest_of(bundle: Bundle) -> bytes:
    """The artifact's manifest: the same bytes for the same files."""
    annotations = {_TITLE: bundle.title}
    if bundle.licence:
        annotations["org.opencontainers.image.licenses"] = bundle.licence
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {**_descriptor(_EMPTY, _EMPTY_TYPE), "data": "e30="},
        "layers": [
            {**_descriptor(file, _media_type(file.path)), "annotations": {_TITLE: file.path}}
            for file in bundle.files
        ],
        "annotations": annotations,
    }
    data = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if len(data) > _LARGEST_MANIFEST_BYTES:
        raise Failure(
            f"{bundle.repo}: too many files for one artifact of a registry", "publish fewer targets"
        )
    return data


def tags_of(bundle: Bundle) -> tuple[str, ...]:
    """The tag that the recipe wants, which never moves, and then the one that names the newest."""
    newest = newest_tag(bundle.revision)
    tags = (bundle.tag, newest) if bundle.tag and bundle.tag != newest else (newest,)
    return tuple(map(_checked, tags))


def newest_tag(revision: str) -> str:
    """The tag that moves: what the recipe calls a branch."""
    return _checked("latest" if revision == "main" else revision)


def _checked(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise UsageFailure(
            f"publish: {tag!r} cannot be a tag of a registry", "use letters, digits, '.', '_' and '-'"
        )
    return tag


def _titled(data: bytes) -> dict[str, str]:
    """The digest of each layer that is named after a file; of what is no artifact of files, none."""
    try:
        layers = json.loads(data)["layers"]
        return {str(layer["annotations"][_TITLE]): str(layer["digest"]) for layer in layers}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _lacking(registry: Registry, files: Iterable[ShippedFile]) -> list[ShippedFile]:
    return [file for file in files if not registry.has_blob(file.sha256, file.size_bytes)]


def _distinct(files: Iterable[ShippedFile]) -> list[ShippedFile]:
    """Each content once, however many names it has."""
    return list({file.sha256: file for file in files}.values())


def _descriptor(file: ShippedFile, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{file.sha256}", "size": file.size_bytes}


def _media_type(path: str) -> str:
    return _MEDIA_TYPES.get(path.rpartition(".")[2], "application/octet-stream")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _wrong(where: str) -> Failure:
    return Failure(
        f"{where}: what came back is not what was sent", "run the same command again; is the registry sound?"
    )

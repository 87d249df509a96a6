"""A registry of OCI artifacts: each file is a layer, as ORAS writes and pulls them; the tags are set last."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from convert.errors import Failure, UsageFailure
from convert.progress import Progress
from convert.publish.bundle import Bundle, Origin, ShippedFile
from convert.publish.destination import RERUN, Contents, Destination, Moved, Sent, Survey
from convert.publish.listing import differs, name_of
from convert.publish.oci.blob import CHUNK_BYTES, Push
from convert.publish.oci.login import Login, remembered
from convert.publish.oci.registry import MANIFEST_TYPE, Registry
from convert.source import Hub
from convert.source.retry import RetryLimits

ARTIFACT_TYPE = "application/vnd.modelwright.model.v1"
_TITLE = "org.opencontainers.image.title"  # what ORAS names a file after

# The configuration that the specification has for what is no image.
_EMPTY_TYPE = "application/vnd.oci.empty.v1+json"
_EMPTY = ShippedFile.made("config", b"{}")

_BYTES = "application/octet-stream"
_MEDIA_TYPES = {"json": "application/json", "md": "text/markdown", "png": "image/png"}
_LARGEST_MANIFEST_BYTES = 4 << 20  # what every registry must take
# As on the Hub: smaller files are fetched and hashed, of larger ones the registry's digests are compared.
_FETCHED_BYTES = 1 << 20

_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::\d{1,5})?")


@dataclass(frozen=True)
class OciDestination(Destination):
    """A namespace of a registry, with a repository for each repo."""

    host: str
    namespace: str
    retry: RetryLimits = field(default_factory=RetryLimits)
    chunk_bytes: int = CHUNK_BYTES

    SCHEMES = ("oci",)

    @classmethod
    def at(cls, address: str, hub: Hub) -> Self:  # noqa: ARG003 - the Hub's alone
        host, _, namespace = address.partition("://")[2].rstrip("/").partition("/")
        if not _HOST.fullmatch(host) or (namespace and not _REPOSITORY.fullmatch(namespace.lower())):
            raise UsageFailure(
                f"publish.to: {address} names no place in a registry",
                "write oci://registry.example/models; the repo's name and its tag are appended",
            )
        return cls(host, namespace)

    def origin(self, repo: str, revision: str) -> Origin:
        """Name the repository and the tag that moves."""
        return Origin("registry", f"{self.host}/{self._repository(repo)}", newest_tag(revision))

    def look(self, repo: str, revision: str) -> Contents:
        """See which layers the newest release's tag names."""
        with self._registry(repo) as registry:
            data = registry.get_manifest(newest_tag(revision))
        digests = _titled(data) if data is not None else {}
        return Contents(
            head=digest_of(data) if data is not None else None,
            paths=frozenset(digests),
            has=lambda file: digests.get(file.path) == f"sha256:{file.sha256}",
            keeps_others=False,
        )

    def survey(self, bundle: Bundle) -> Survey:
        """See what the tags name, and which layers the repository lacks."""
        digest, (*fixed, newest) = digest_of(manifest_of(bundle)), tags_of(bundle)
        with self._registry(bundle.repo) as registry:
            head = registry.head_manifest(newest)
            for tag in fixed:
                found = registry.head_manifest(tag)
                if found not in (None, digest):
                    raise Failure(
                        f"{registry.name}: the tag {tag} already names something else ({found})",
                        "choose another publish.tag, or remove that one from the registry",
                    )
            missing = tuple(_lacking(registry, bundle.files))
        return Survey(f"oci://{registry.name}", exists=head is not None, head=head, missing=missing)

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Push the layers, then the manifest by its digest, then let the tags name it."""
        manifest, tags = manifest_of(bundle), tags_of(bundle)
        digest = digest_of(manifest)
        with self._registry(bundle.repo) as registry:
            if registry.head_manifest(tags[-1]) != survey.head:
                raise Moved(survey.place)
            missing = _lacking(registry, [*bundle.files, _EMPTY])
            sent_bytes = sum(file.size_bytes for file in missing)
            with progress.stage("upload", sent_bytes) as advance:
                for file in missing:
                    Push(registry, file, advance, self.chunk_bytes).run()
            unset = [tag for tag in tags if registry.head_manifest(tag) != digest]
            if unset:
                registry.put_manifest(digest, manifest)
            for tag in unset:
                if tag == tags[-1] and registry.head_manifest(tag) != survey.head:
                    raise Moved(survey.place)
                registry.put_manifest(tag, manifest)
        return Sent(survey.place, digest, sent_bytes, is_new=bool(unset or missing))

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Fetch what the tags name and the small layers; of the others compare what the registry says."""
        manifest, files = manifest_of(bundle), _distinct([*bundle.files, _EMPTY])
        fetched = [file for file in files if file.size_bytes <= _FETCHED_BYTES]
        with self._registry(bundle.repo) as registry:
            for tag in tags_of(bundle):
                if registry.get_manifest(tag) != manifest:
                    raise differs(f"{sent.place}:{tag}", RERUN)
            with progress.stage("read back", sum(file.size_bytes for file in fetched)) as advance:
                for file in files:
                    is_there = registry.has_blob(file.sha256, file.size_bytes)
                    if is_there and file in fetched:
                        is_there = registry.blob_sha256(file.sha256, advance) == file.sha256
                    if not is_there:
                        raise differs(f"{sent.place}: {file.path}", f"{RERUN}; is the registry sound?")

    @cached_property
    def _find_login(self) -> Callable[[], Login | None]:
        return remembered(self.host)

    def _repository(self, repo: str) -> str:
        return "/".join(part for part in (self.namespace, name_of(repo)) if part).lower()

    def _registry(self, repo: str) -> Registry:
        repository = self._repository(repo)
        if not _REPOSITORY.fullmatch(repository):
            raise UsageFailure(
                f"publish.to: {repository!r} cannot name a repository of a registry",
                "a name is made of letters, digits, and single '.', '_' or '-' between them",
            )
        return Registry(self.host, repository, self._find_login, self.retry)


def manifest_of(bundle: Bundle) -> bytes:
    """Write the artifact's manifest: the same bytes for the same files."""
    annotations = {_TITLE: bundle.title}
    if bundle.license:
        annotations["org.opencontainers.image.licenses"] = bundle.license
    content: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST_TYPE,
        "artifactType": ARTIFACT_TYPE,
        "config": {**_descriptor(_EMPTY, _EMPTY_TYPE), "data": "e30="},
        "layers": [
            {
                **_descriptor(file, _MEDIA_TYPES.get(file.path.rpartition(".")[2], _BYTES)),
                "annotations": {_TITLE: file.path},
            }
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
    """Give the recipe's tag, which never moves, if it has one, and then the tag of the newest release."""
    newest = newest_tag(bundle.revision)
    tags = (bundle.tag, newest) if bundle.tag and bundle.tag != newest else (newest,)
    return tuple(map(_checked, tags))


def newest_tag(revision: str) -> str:
    """Give the tag that moves: what the recipe calls a branch."""
    return _checked("latest" if revision == "main" else revision)


def _checked(tag: str) -> str:
    if not _TAG.fullmatch(tag):
        raise UsageFailure(
            f"publish: {tag!r} cannot be a tag of a registry", "use letters, digits, '.', '_' and '-'"
        )
    return tag


def _titled(data: bytes) -> dict[str, str]:
    """Give the digest of each layer that is named after a file; none of another kind of manifest."""
    try:
        layers = json.loads(data)["layers"]
        return {str(layer["annotations"][_TITLE]): str(layer["digest"]) for layer in layers}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _lacking(registry: Registry, files: Iterable[ShippedFile]) -> list[ShippedFile]:
    return [file for file in _distinct(files) if not registry.has_blob(file.sha256, file.size_bytes)]


def _distinct(files: Iterable[ShippedFile]) -> list[ShippedFile]:
    """Keep each content once, however many names it has."""
    return list({file.sha256: file for file in files}.values())


def _descriptor(file: ShippedFile, media_type: str) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{file.sha256}", "size": file.size_bytes}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


DESTINATION = OciDestination

"""A registry of OCI artifacts: ModelPack's, with each file as a layer; the tags are set last."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from convert.errors import Failure, UsageFailure
from convert.progress import Progress
from convert.publish.bundle import Bundle, Origin, ShippedFile
from convert.publish.destination import Contents, Destination, Moved, Sent, Survey
from convert.publish.listing import differs, name_of
from convert.publish.oci.blob import CHUNK_BYTES, Push
from convert.publish.oci.login import Login, remembered
from convert.publish.oci.modelpack import TITLE, Packed, pack
from convert.publish.oci.referrer import EMPTY, are_there, attach, digest_of
from convert.publish.oci.registry import Registry
from convert.source import Hub
from convert.source.retry import RetryLimits
from convert.store.objects import RERUN

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
        whole = _packed(bundle)[-1]
        *fixed, newest = whole.tags
        with self._registry(bundle.repo) as registry:
            head = registry.head_manifest(newest)
            for tag in fixed:
                found = registry.head_manifest(tag)
                if found not in (None, whole.digest):
                    raise Failure(
                        f"{registry.name}: the tag {tag} already names something else ({found})",
                        "choose another publish.tag, or remove that one from the registry",
                    )
            missing = tuple(_lacking(registry, bundle.files))
        return Survey(f"oci://{registry.name}", exists=head is not None, head=head, missing=missing)

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Push the layers, then the manifests by their digests, then let the tags name them."""
        packed = _packed(bundle)
        whole = packed[-1]
        newest = whole.tags[-1]
        with self._registry(bundle.repo) as registry:
            if registry.head_manifest(newest) != survey.head:
                raise Moved(survey.place)
            missing = _lacking(registry, _contents(bundle, packed))
            with progress.stage("upload", sum(file.size_bytes for file in missing)) as advance:
                for file in missing:
                    Push(registry, file, advance, self.chunk_bytes).run()
            unset = [
                (each, tag)
                for each in packed
                for tag in each.tags
                if registry.head_manifest(tag) != each.digest
            ]
            for each in dict.fromkeys(each for each, _ in unset):
                registry.put_manifest(each.digest, each.data)
                attach(registry, each.digest, each.referrers)
            for each, tag in unset:
                if tag == newest and registry.head_manifest(tag) != survey.head:
                    raise Moved(survey.place)
                registry.put_manifest(tag, each.data)
        sent_bytes = sum(file.size_bytes for file in missing if file in bundle.files)
        return Sent(survey.place, whole.digest, sent_bytes, is_new=bool(unset or missing))

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Fetch what the tags name and the small layers; of the others compare what the registry says."""
        packed = _packed(bundle)
        files = _distinct(_contents(bundle, packed))
        fetched = [file for file in files if file.size_bytes <= _FETCHED_BYTES]
        with self._registry(bundle.repo) as registry:
            for each in packed:
                for tag in each.tags:
                    if registry.get_manifest(tag) != each.data:
                        raise differs(f"{sent.place}:{tag}", RERUN)
                if not are_there(registry, each.referrers):
                    raise differs(f"{sent.place}:{each.tags[-1]}: what attests it", RERUN)
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


def _packed(bundle: Bundle) -> tuple[Packed, ...]:
    packed = pack(bundle, tags_of(bundle))
    for tag in (tag for each in packed for tag in each.tags):
        _checked(tag)
    return packed


def _contents(bundle: Bundle, packed: Iterable[Packed]) -> list[ShippedFile]:
    """List every content that the manifests name."""
    configs = [each.config for each in packed]
    return [*bundle.files, *configs, *([EMPTY] if any(each.referrers for each in packed) else [])]


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
        return {str(layer["annotations"][TITLE]): str(layer["digest"]) for layer in layers}
    except (ValueError, KeyError, TypeError, RecursionError):
        return {}


def _lacking(registry: Registry, files: Iterable[ShippedFile]) -> list[ShippedFile]:
    return [file for file in _distinct(files) if not registry.has_blob(file.sha256, file.size_bytes)]


def _distinct(files: Iterable[ShippedFile]) -> list[ShippedFile]:
    """Keep each content once, however many names it has."""
    return list({file.sha256: file for file in files}.values())


DESTINATION = OciDestination

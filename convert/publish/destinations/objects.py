"""Object stores and whatever else fsspec reaches: S3 and compatible stores, other clouds, SFTP."""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

from convert.errors import Failure, UsageFailure
from convert.progress import Progress
from convert.publish.bundle import Bundle, Origin, ShippedFile
from convert.publish.destination import ANY_SCHEME, RERUN, Contents, Destination, Moved, Sent, Survey
from convert.publish.listing import (
    LARGEST_BYTES,
    NAME,
    Listing,
    blocks,
    differs,
    head_of,
    listing_of,
    name_of,
    parse,
)
from convert.source import Hub

# Up to this size an object is written by one request, which is whole or nothing in itself; larger ones come
# in parts of it. S3 takes 10,000 parts: 320 GiB.
_PART_BYTES = 32 << 20

# What a message of a store's client may quote: who asked, in a query or before the host's name.
_SECRET = re.compile(r"\?\S*|//[^/@\s]+@")

# Of fsspec's schemes, those that nothing can be published to, or that a recipe cannot write.
_UNFIT = frozenset({"http", "https", "data", "blockcache", "filecache", "simplecache", "reference", "zip"})

# What installs the commonest stores, for a hint.
_PACKAGES: Mapping[str, str] = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "oss": "ossfs",
}


@dataclass(frozen=True)
class _State:
    """What the store holds, as far as one bundle is concerned."""

    data: bytes | None  # of the list that names the current release
    present: Mapping[str, int]  # sizes, below the bundle's own prefix
    near: Mapping[str, str]  # where the current release holds a content, by its sha256

    def lacking(self, bundle: Bundle) -> list[ShippedFile]:
        """List what must still be brought to the bundle's prefix."""
        return [file for file in bundle.files if self.present.get(file.path) != file.size_bytes]

    def missing(self, bundle: Bundle) -> tuple[ShippedFile, ...]:
        """List what of that must be brought from here."""
        return tuple(file for file in self.lacking(bundle) if file.sha256 not in self.near)


@dataclass(frozen=True)
class ObjectDestination(Destination):
    """A prefix of an object store, with a repo's releases below each of its names."""

    # No store has a rename that hides its half-way states. So each release has a prefix named after its
    # content, and one small object, written last, names the current one: readers see the old or the new.

    address: str
    files: Any  # fsspec's file system
    root: str

    SCHEMES = (ANY_SCHEME,)

    @classmethod
    def at(cls, address: str, hub: Hub) -> Self:  # noqa: ARG003 - the Hub's alone
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - only for who publishes there

        scheme, shown = address.partition("://")[0].lower(), _redacted(address)
        if scheme in _UNFIT or scheme not in fsspec.available_protocols():
            raise UsageFailure(
                f"publish.to: nothing can be published to {scheme}://",
                "write a folder, an address that fsspec knows as s3://bucket/models, or a registry as oci://…",
            )
        try:
            files, root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            package = _PACKAGES.get(scheme)
            hint = f"pip install {package}" if package else _redacted(error)
            raise Failure(f"publish.to: what reaches {scheme}:// is not installed", hint) from None
        except Exception as error:  # noqa: BLE001 - each of fsspec's clients has its own exceptions
            raise Failure(
                f"publish.to: {shown}: {type(error).__name__}: {_redacted(error)}", "check the address"
            ) from None
        if not root.strip("/"):
            raise UsageFailure(f"publish.to: {shown} names no place", "name a bucket or a folder after it")
        return cls(shown.rstrip("/"), files, root.rstrip("/"))

    def origin(self, repo: str, revision: str) -> Origin:  # noqa: ARG002
        """Name the address, without a password."""
        return Origin("store", self._place(repo))

    def look(self, repo: str, revision: str) -> Contents:  # noqa: ARG002 - a store has no branches
        """See what the current release holds, according to its list."""
        with self._asking(self._place(repo)):
            data, current = self._current(repo)
        digests = current.digests if current else {}
        return Contents(
            head_of(data),
            frozenset(digests),
            lambda file: digests.get(file.path) == file.sha256,
            keeps_others=False,
        )

    def survey(self, bundle: Bundle) -> Survey:
        """See which release is the current one, and what the bundle's own prefix holds already."""
        place = self._place(bundle.repo)
        with self._asking(place):
            state = self._state(bundle)
        return Survey(
            place,
            exists=state.data is not None or bool(state.present),
            head=head_of(state.data),
            missing=state.missing(bundle),
            foreign=tuple(sorted(set(state.present) - {file.path for file in bundle.files})),
        )

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Complete the release's own prefix, then let the list name it."""
        listing = listing_of(bundle)
        place = f"{survey.place}/{listing.version}"
        with self._asking(survey.place):
            state = self._state(bundle)
            if head_of(state.data) != survey.head:
                raise Moved(survey.place)
            if not state.lacking(bundle) and state.data == listing.to_bytes():
                return Sent(place, listing.version, 0, is_new=False)
            sent_bytes = self._fill(bundle, state, progress)
            after = self._state(bundle)
            for file in after.lacking(bundle):
                raise Failure(f"{place}/{file.path}: sent, but not there at its size", RERUN)
            if after.data != state.data:
                raise Moved(survey.place)
            self.files.pipe_file(f"{self._base(bundle.repo)}/{NAME}", listing.to_bytes())
        return Sent(place, listing.version, sent_bytes, is_new=True)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Read every object and compare its digest: few stores name the SHA-256 of what came in parts."""
        listing = listing_of(bundle)
        prefix = self._prefix(bundle.repo, listing)
        with self._asking(sent.place):
            if self._current(bundle.repo)[0] != listing.to_bytes():
                raise differs(f"{self._place(bundle.repo)}/{NAME}", RERUN)
            with progress.stage("read back", bundle.size_bytes) as advance:
                for file in bundle.files:
                    if self._sha256(f"{prefix}/{file.path}", advance) != file.sha256:
                        hint = "remove that object, and run the same command again"
                        raise differs(f"{sent.place}/{file.path}", hint)

    def _state(self, bundle: Bundle) -> _State:
        listing, (data, current) = listing_of(bundle), self._current(bundle.repo)
        present = self._sizes(self._prefix(bundle.repo, listing))
        if current is None or current.version == listing.version:
            return _State(data, present, {})
        prefix = self._prefix(bundle.repo, current)
        sizes = self._sizes(prefix)
        whole = (entry for entry in current.files if sizes.get(entry.path) == entry.size_bytes)
        return _State(data, present, {entry.sha256: f"{prefix}/{entry.path}" for entry in whole})

    def _fill(self, bundle: Bundle, state: _State, progress: Progress) -> int:
        """Bring what the release's prefix lacks: from the current release, within the store, or from here."""
        prefix, missing = self._prefix(bundle.repo, listing_of(bundle)), state.missing(bundle)
        sent_bytes = sum(file.size_bytes for file in missing)
        with progress.stage("upload", sent_bytes) as advance:
            for file in state.lacking(bundle):
                path = f"{prefix}/{file.path}"
                if not self.files.async_impl:  # a store with folders, which must be there first
                    self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
                if file in missing:
                    self._put(path, file, advance)
                else:
                    self.files.cp_file(state.near[file.sha256], path)
        return sent_bytes

    def _put(self, path: str, file: ShippedFile, advance: Callable[[int], None]) -> None:
        """Write an object whole or not at all; abort the upload where parts were begun.

        A killed run cannot, and the next does not: clients list begun uploads by the bucket alone,
        and any of them may be another run's. S3's own rule for that is AbortIncompleteMultipartUpload.
        """
        if file.size_bytes <= _PART_BYTES:
            self.files.pipe_file(path, b"".join(blocks(file, advance)))
            return
        stream = self.files.open(path, "wb", block_size=_PART_BYTES, autocommit=False)
        try:
            for block in blocks(file, advance):
                stream.write(block)
            stream.close()
            stream.commit()
        except BaseException:
            stream.discard()
            stream.closed = True  # or its destructor would complete what was just given up
            raise

    def _current(self, repo: str) -> tuple[bytes | None, Listing | None]:
        """Read the list that names the current release, if one was published."""
        self.files.invalidate_cache()
        try:
            data: bytes = self.files.cat_file(f"{self._base(repo)}/{NAME}", start=0, end=LARGEST_BYTES + 1)
        except FileNotFoundError:
            return None, None
        return data, parse(data, f"{self._place(repo)}/{NAME}")

    def _sizes(self, prefix: str) -> dict[str, int]:
        self.files.invalidate_cache()
        try:
            found: dict[str, dict[str, Any]] = self.files.find(prefix, detail=True)
        except FileNotFoundError:
            return {}
        start = len(prefix) + 1
        return {path[start:]: int(about["size"]) for path, about in found.items() if len(path) > start}

    def _sha256(self, path: str, advance: Callable[[int], None]) -> str:
        hasher = hashlib.sha256()
        with self.files.open(path, "rb", block_size=_PART_BYTES) as stream:
            while block := stream.read(_PART_BYTES):
                hasher.update(block)
                advance(len(block))
        return hasher.hexdigest()

    def _base(self, repo: str) -> str:
        return f"{self.root}/{name_of(repo)}"

    def _prefix(self, repo: str, listing: Listing) -> str:
        return f"{self._base(repo)}/{listing.version}"

    def _place(self, repo: str) -> str:
        return f"{self.address}/{name_of(repo)}"

    @contextmanager
    def _asking(self, place: str) -> Iterator[None]:
        """Turn whatever a store's client raises into one line, without who asked."""
        try:
            yield
        except Failure:
            raise
        except PermissionError as error:
            raise Failure(
                f"{place}: access refused ({_redacted(error)})",
                "log in with the store's own tools, as somebody who may write",
            ) from None
        except FileNotFoundError as error:
            raise Failure(f"{place}: {_redacted(error)}", "make the bucket or the folder first") from None
        except Exception as error:  # noqa: BLE001 - each of fsspec's clients has its own exceptions
            raise Failure(f"{place}: {type(error).__name__}: {_redacted(error)}", RERUN) from None


def _redacted(what: object) -> str:
    """Give one line, without what a query or a user's part of an address holds."""
    text = _SECRET.sub(lambda found: "//" if found[0].startswith("//") else "", str(what))
    return " ".join(text.split())[:300]


DESTINATION = ObjectDestination

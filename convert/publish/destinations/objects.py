"""Whatever fsspec reaches: S3 and its likes, other clouds, SFTP.

Stores have no rename that a reader cannot see half of. So each release has a prefix of its own, named after
its content, and one small object says which is the current one. It is written last: who follows it sees the
old release or the new one, whole.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from convert.errors import Failure, UsageFailure
from convert.publish.destination import Sent, Standing, Survey
from convert.publish.destinations.listing import (
    LARGEST_BYTES,
    NAME,
    Listing,
    blocks,
    listing_of,
    moved,
    name_of,
    parse,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from convert.progress import Progress
    from convert.publish.bundle import Bundle, ShippedFile

# Up to this size an object is written by one request, which is whole or nothing in itself; larger ones come
# in parts of it. S3 takes 10,000 parts: 320 GiB.
_PART_BYTES = 32 << 20
_RERUN = "run the same command again: what has arrived is not sent twice"

# What a message of a store's client may quote: who asked, in a query or before the host's name.
_SECRET = re.compile(r"\?\S*|//[^/@\s]+@")


@dataclass(frozen=True)
class _Look:
    """What stands in the store, as far as one bundle is concerned."""

    data: bytes | None  # of the list that names the current release
    present: Mapping[str, int]  # sizes, below the bundle's own prefix
    near: Mapping[str, str]  # where the current release holds a content, by its sha256

    @property
    def head(self) -> str | None:
        return _head(self.data)

    def lacking(self, bundle: Bundle) -> list[ShippedFile]:
        """What must still be brought to the bundle's prefix."""
        return [file for file in bundle.files if self.present.get(file.path) != file.size_bytes]

    def missing(self, bundle: Bundle) -> tuple[ShippedFile, ...]:
        """And of that, what must be brought from here."""
        return tuple(file for file in self.lacking(bundle) if file.sha256 not in self.near)


@dataclass(frozen=True)
class ObjectPlace:
    """A destination: a prefix of an object store, with a repo's releases below each of its names."""

    address: str
    files: Any  # fsspec's file system
    root: str

    def look(self, repo: str, revision: str) -> Standing:  # noqa: ARG002 - a store has no branches
        """See what the current release holds, as its list tells."""
        place = self._place(repo)
        with self._asking(place):
            data = self._current(repo)
        digests = _parsed(data, place).digests if data is not None else {}
        paths = frozenset(digests)
        return Standing(_head(data), paths, lambda file: digests.get(file.path) == file.sha256, is_kept=False)

    def describe(self, bundle: Bundle) -> Survey:
        """Look which release is the current one, and what the bundle's own prefix holds already."""
        place = self._place(bundle.repo)
        with self._asking(place):
            look = self._look(bundle)
        return Survey(
            place,
            exists=look.data is not None or bool(look.present),
            head=look.head,
            missing=look.missing(bundle),
            foreign=tuple(sorted(set(look.present) - {file.path for file in bundle.files})),
        )

    def send(self, bundle: Bundle, survey: Survey, progress: Progress) -> Sent:
        """Complete the release's own prefix, then let the list name it."""
        listing = listing_of(bundle)
        place = f"{survey.place}/{listing.version}"
        with self._asking(survey.place):
            look = self._look(bundle)
            if look.head != survey.head:
                raise moved(survey.place)
            if not look.lacking(bundle) and look.data == listing.to_bytes():
                return Sent(place, listing.version, 0, is_new=False)
            sent_bytes = self._fill(bundle, look, progress)
            after = self._look(bundle)
            for file in after.lacking(bundle):
                raise Failure(f"{place}/{file.path}: sent, and not there at its size", _RERUN)
            if after.data != look.data:
                raise moved(survey.place)
            self.files.pipe_file(f"{self._base(bundle.repo)}/{NAME}", listing.to_bytes())
        return Sent(place, listing.version, sent_bytes, is_new=True)

    def read_back(self, bundle: Bundle, sent: Sent, progress: Progress) -> None:
        """Read every object and compare its digest: few stores name the SHA-256 of what came in parts."""
        listing = listing_of(bundle)
        prefix = self._prefix(bundle.repo, listing)
        with self._asking(sent.place):
            if self._current(bundle.repo) != listing.to_bytes():
                raise Failure(f"{self._place(bundle.repo)}/{NAME}: not what was published there", _RERUN)
            with progress.stage("read back", bundle.size_bytes) as advance:
                for file in bundle.files:
                    if self._sha256(f"{prefix}/{file.path}", advance) != file.sha256:
                        raise Failure(
                            f"{sent.place}/{file.path}: not what was published there",
                            "remove that object, and run the same command again",
                        )

    def _look(self, bundle: Bundle) -> _Look:
        listing, data = listing_of(bundle), self._current(bundle.repo)
        present = self._sizes(self._prefix(bundle.repo, listing))
        if data is None:
            return _Look(data, present, {})
        current = _parsed(data, self._place(bundle.repo))
        if current.version == listing.version:
            return _Look(data, present, {})
        prefix = self._prefix(bundle.repo, current)
        sizes = self._sizes(prefix)
        whole = (entry for entry in current.files if sizes.get(entry.path) == entry.size_bytes)
        return _Look(data, present, {entry.sha256: f"{prefix}/{entry.path}" for entry in whole})

    def _fill(self, bundle: Bundle, look: _Look, progress: Progress) -> int:
        """Bring what the release's prefix lacks: from the current release, within the store, or from here."""
        prefix, missing = self._prefix(bundle.repo, listing_of(bundle)), look.missing(bundle)
        sent_bytes = sum(file.size_bytes for file in missing)
        with progress.stage("upload", sent_bytes) as advance:
            for file in look.lacking(bundle):
                path = f"{prefix}/{file.path}"
                if not self.files.async_impl:  # a store with folders, which must be there first
                    self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
                if file in missing:
                    self._put(path, file, advance)
                else:
                    self.files.cp_file(look.near[file.sha256], path)
        return sent_bytes

    def _put(self, path: str, file: ShippedFile, advance: Callable[[int], None]) -> None:
        """Write an object whole or not at all; where parts were begun, the store is told to forget them.

        A killed run cannot tell it, and the next does not: clients list begun uploads by the bucket alone,
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

    def _current(self, repo: str) -> bytes | None:
        """The list that names the current release; None where nothing was published yet."""
        self.files.invalidate_cache()
        try:
            data: bytes = self.files.cat_file(f"{self._base(repo)}/{NAME}", start=0, end=LARGEST_BYTES + 1)
        except FileNotFoundError:
            return None
        return data

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
                f"{place}: access refused ({_said(error)})",
                "log in with the store's own tools, as who may write",
            ) from None
        except FileNotFoundError as error:
            raise Failure(f"{place}: {_said(error)}", "make the bucket or the folder first") from None
        except Exception as error:  # noqa: BLE001 - each of fsspec's clients has exceptions of its own
            raise Failure(f"{place}: {type(error).__name__}: {_said(error)}", _RERUN) from None


def _parsed(data: bytes, place: str) -> Listing:
    """The list that names the current release."""
    current = parse(data)
    if current is None:
        raise Failure(
            f"{place}/{NAME}: damaged, or of a later version", "upgrade modelwright, or move it away"
        )
    return current


def _head(data: bytes | None) -> str | None:
    return hashlib.sha256(data).hexdigest() if data is not None else None


def store_at(address: str) -> ObjectPlace:
    """The place at an address of fsspec's."""
    import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - for who publishes there

    scheme = address.partition("://")[0].lower()
    if scheme not in fsspec.available_protocols():
        raise UsageFailure(
            f"publish.to: {scheme}:// is known neither here nor to fsspec",
            "write a folder, an address that fsspec knows as s3://bucket/models, or oci://registry/models",
        )
    try:
        files, root = fsspec.core.url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(scheme)
        hint = f"pip install {package}" if package else _said(error)
        raise Failure(f"publish.to: what reaches {scheme}:// is not installed", hint) from None
    except Exception as error:  # noqa: BLE001 - each of fsspec's clients has exceptions of its own
        raise Failure(
            f"publish.to: {_said(address)}: {type(error).__name__}: {_said(error)}", "check the address"
        ) from None
    if not root.strip("/"):
        raise UsageFailure(
            f"publish.to: {_said(address)} names no place", "name a bucket or a folder after it"
        )
    return ObjectPlace(_said(address).rstrip("/"), files, root.rstrip("/"))


# What brings the commonest stores, for a hint.
_PACKAGES: Mapping[str, str] = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "abfss": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
    "ssh": "paramiko",
    "oss": "ossfs",
}


def _said(what: object) -> str:
    """One line, without what a query or a user's part of an address holds."""
    text = _SECRET.sub(lambda found: "//" if found[0].startswith("//") else "", str(what))
    return " ".join(text.split())[:300]

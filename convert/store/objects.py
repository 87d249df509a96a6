"""A place in an object store, or wherever else fsspec reaches; whatever fails there is one line."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from convert.errors import Failure, UsageFailure

# Up to this size an object is written by one request, which is whole or nothing in itself; larger ones come
# in parts of it. S3 takes 10,000 parts: 320 GiB.
PART_BYTES = 32 << 20
_BLOCK_BYTES = 1 << 20

RERUN = "run the same command again: what has arrived is not sent twice"
EXAMPLES = "write a folder, an address that fsspec knows as s3://bucket/models, or oci://registry/models"

# What a message of a store's client may quote: who asked, in a query or before the host's name.
_SECRET = re.compile(r"\?\S*|//[^/@\s]+@")

# Of fsspec's schemes, those that nothing can be written to, or that a recipe cannot name.
_UNFIT = frozenset({"http", "https", "data", "blockcache", "filecache", "simplecache", "reference", "zip"})

# Those that write a file where it is, byte by byte, and rename one over another. A store's object is whole or
# not there.
_WITH_RENAMES = frozenset({"file", "local", "sftp", "ssh"})

# What installs the commonest stores, for a hint.
_PACKAGES: Mapping[str, str] = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("abfs", "abfss", "az"), "adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "paramiko"),
    "oss": "ossfs",
}


@dataclass(frozen=True)
class Objects:
    """A prefix of an object store."""

    address: str  # without a password
    files: Any  # fsspec's file system
    root: str

    @classmethod
    def reached(cls, address: str, what: str, hint: str = EXAMPLES) -> Self:
        """Open the place at an address; `what` names who asked, in messages."""
        import fsspec  # type: ignore[import-untyped]  # noqa: PLC0415 - only for who goes there

        scheme, shown = address.partition("://")[0].lower(), redacted(address)
        refuse_password(address, what)
        if scheme in _UNFIT or scheme not in fsspec.available_protocols():
            raise UsageFailure(f"{what}: nothing can be written to {scheme}://", hint)
        try:
            files, root = fsspec.core.url_to_fs(address)
        except ImportError as error:
            package = _PACKAGES.get(scheme)
            install = f"pip install {package}" if package else redacted(error)
            raise Failure(f"{what}: what reaches {scheme}:// is not installed", install) from None
        except Exception as error:  # noqa: BLE001 - each of fsspec's clients has its own exceptions
            raise Failure(
                f"{what}: {shown}: {type(error).__name__}: {redacted(error)}", "check the address"
            ) from None
        if not root.strip("/"):
            raise UsageFailure(f"{what}: {shown} names no place", "name a bucket or a folder after it")
        return cls(shown.rstrip("/"), files, root.rstrip("/"))

    def put(self, path: str, blocks: Iterable[bytes], size_bytes: int) -> None:
        """Write an object whole or not at all; abort the upload where parts were begun.

        A killed run cannot, and the next does not: clients list begun uploads by the bucket alone,
        and any of them may be another run's. S3's own rule for that is AbortIncompleteMultipartUpload.
        """
        self.make_folder(path)
        if size_bytes <= PART_BYTES:
            self.files.pipe_file(path, b"".join(blocks))
            return
        stream = self.files.open(path, "wb", block_size=PART_BYTES, autocommit=False)
        try:
            for block in blocks:
                stream.write(block)
            stream.close()
            stream.commit()
        except BaseException:
            stream.discard()
            stream.closed = True  # or its destructor would complete what was just given up
            raise

    def replace(self, path: str, data: bytes) -> None:
        """Write a small object so that readers see the one before it or this one, at any moment."""
        protocol = self.files.protocol
        if not _WITH_RENAMES.intersection([protocol] if isinstance(protocol, str) else protocol):
            self.files.pipe_file(path, data)
            return
        self.files.pipe_file(f"{path}.part", data)
        self.files.mv(f"{path}.part", path)

    def put_file(self, path: str, source: Path, advance: Callable[[int], None] = lambda _: None) -> None:
        """Write an object from a file."""

        def blocks() -> Iterator[bytes]:
            with source.open("rb") as stream:
                while block := stream.read(_BLOCK_BYTES):
                    yield block
                    advance(len(block))

        self.put(path, blocks(), source.stat().st_size)

    def make_folder(self, path: str) -> None:
        """Make the folder of an object, in a store that has folders, which must be there first."""
        if not self.files.async_impl:
            self.files.makedirs(path.rpartition("/")[0], exist_ok=True)

    def read(self, path: str, most_bytes: int) -> bytes | None:
        """Read an object of a few bytes as it is now; None where there is none."""
        self.files.invalidate_cache()
        try:
            data: bytes = self.files.cat_file(path, start=0, end=most_bytes)
        except FileNotFoundError:
            return None
        return data

    def sizes(self, prefix: str) -> dict[str, int]:
        """List the objects below a prefix as they are now, with their sizes."""
        self.files.invalidate_cache()
        try:
            found: dict[str, dict[str, Any]] = self.files.find(prefix, detail=True)
        except FileNotFoundError:
            return {}
        start = len(prefix) + 1
        return {path[start:]: int(about["size"]) for path, about in found.items() if len(path) > start}

    def blocks(self, path: str) -> Iterator[bytes]:
        """Read an object, block by block."""
        with self.files.open(path, "rb", block_size=PART_BYTES) as stream:
            while block := stream.read(PART_BYTES):
                yield block

    def sha256(self, path: str, advance: Callable[[int], None] = lambda _: None) -> str:
        """Digest an object: few stores name the SHA-256 of what came in parts."""
        hasher = hashlib.sha256()
        for block in self.blocks(path):
            hasher.update(block)
            advance(len(block))
        return hasher.hexdigest()

    @contextmanager
    def asking(self, place: str | None = None) -> Iterator[None]:
        """Turn whatever a store's client raises into one line, without who asked."""
        place = place or self.address
        try:
            yield
        except Failure:
            raise
        except PermissionError as error:
            raise Failure(
                f"{place}: access refused ({redacted(error)})",
                "log in with the store's own tools, as somebody who may write",
            ) from None
        except FileNotFoundError as error:
            raise Failure(f"{place}: {redacted(error)}", "make the bucket or the folder first") from None
        except Exception as error:  # noqa: BLE001 - each of fsspec's clients has its own exceptions
            raise Failure(f"{place}: {type(error).__name__}: {redacted(error)}", RERUN) from None


def refuse_password(address: str, what: str) -> None:
    """Refuse a password in an address: a recipe is published, and a command is listed, word for word."""
    try:
        password = urlsplit(address).password if "://" in address else None
    except ValueError:
        raise UsageFailure(f"{what}: {address!r} is not an address", EXAMPLES) from None
    if password is not None:
        raise UsageFailure(
            f"{what}: the address holds a password, which others would read",
            "leave it out; give it as the store's own tools take it (AWS_PROFILE, a login, a key file)",
        )


def redacted(what: object) -> str:
    """Give one line, without what a query or a user's part of an address holds."""
    text = _SECRET.sub(lambda found: "//" if found[0].startswith("//") else "", str(what))
    return " ".join(text.split())[:300]

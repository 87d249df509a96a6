"""The list of a bundle's files: written last where a place has no tags, it marks a release as complete."""

import hashlib
import json
from collections.abc import Callable, Iterator
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.errors import Failure
from convert.publish.bundle import Bundle, ShippedFile
from convert.store import REBUILT, FileEntry
from convert.store.fault import explained

NAME = "published.json"
LARGEST_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


class Listing(BaseModel):
    """What a release consists of: its presence means that all of these files are there."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    schema_version: Annotated[int, Field(alias="schema", ge=1, le=1)] = 1
    repo: str
    version: str  # names the content
    files: tuple[FileEntry, ...]

    def to_bytes(self) -> bytes:
        """Write the list: the same bytes for the same files."""
        content = self.model_dump(mode="json", by_alias=True)
        return f"{json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False)}\n".encode()

    @property
    def digests(self) -> dict[str, str]:
        """Give the sha256 by path."""
        return {entry.path: entry.sha256 for entry in self.files}


def listing_of(bundle: Bundle) -> Listing:
    """List a bundle's files."""
    entries = tuple(
        FileEntry(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256) for file in bundle.files
    )
    if any(entry.path == NAME for entry in entries):
        raise ValueError(f"{bundle.repo}: {NAME} is the name of the list itself")
    text = "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries)
    return Listing(repo=bundle.repo, version=hashlib.sha256(text.encode()).hexdigest()[:16], files=entries)


def parse(data: bytes, path: object) -> Listing:
    """Read a list that was written before."""
    try:
        if len(data) <= LARGEST_BYTES:
            return Listing.model_validate_json(data)
    except ValidationError:
        pass
    raise damaged(path)


def damaged(path: object) -> Failure:
    """Refuse a list that cannot be read."""
    return Failure(f"{path}: damaged, or of a later version", "upgrade modelwright, or move it away")


def head_of(data: bytes | None) -> str | None:
    """Name the release that a list describes; None where there is none."""
    return hashlib.sha256(data).hexdigest() if data is not None else None


def name_of(repo: str) -> str:
    """Name a repo at a place that belongs to its owner already."""
    return repo.rpartition("/")[2]


def blocks(
    file: ShippedFile, advance: Callable[[int], None], start: int = 0, size_bytes: int | None = None
) -> Iterator[bytes]:
    """Read the content from an offset on; what is read to its end must be what was verified."""
    stop = file.size_bytes if size_bytes is None else min(start + size_bytes, file.size_bytes)
    hasher = hashlib.sha256()
    for block in pieces(file, start, stop):
        hasher.update(block)
        yield block
        advance(len(block))
    if (start, stop) == (0, file.size_bytes) and hasher.hexdigest() != file.sha256:
        raise _changed(file)


def pieces(file: ShippedFile, start: int, stop: int) -> Iterator[bytes]:
    """Read part of the content, whatever it is now."""
    if isinstance(file.content, bytes):
        for offset in range(start, stop, _BLOCK_BYTES):
            yield file.content[offset : min(offset + _BLOCK_BYTES, stop)]
        return
    with explained(file.content), file.content.open("rb", buffering=0) as stream:
        stream.seek(start)
        while start < stop:
            block = stream.read(min(_BLOCK_BYTES, stop - start))
            if not block:
                raise _changed(file)
            start += len(block)
            yield block


def _changed(file: ShippedFile) -> Failure:
    name = file.path if isinstance(file.content, bytes) else file.content
    return Failure(f"{name}: changed since it was verified", f"{REBUILT}; then verify it")


def differs(where: object, hint: str) -> Failure:
    """Refuse what was read back."""
    return Failure(f"{where}: not what was published there", hint)

"""The list of a bundle's files: what marks it as complete, written last where a place has no tags."""

from __future__ import annotations

import hashlib
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.errors import Failure
from convert.store import REBUILT, FileEntry
from convert.store.fault import explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from convert.publish.bundle import Bundle, ShippedFile

NAME = "published.json"
LARGEST_BYTES = 64 << 20
_BLOCK_BYTES = 1 << 20


class Listing(BaseModel):
    """What stands at a place: its presence means that all of these files do."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    schema_version: Annotated[int, Field(alias="schema")] = 1
    repo: str
    version: str  # names the content
    files: tuple[FileEntry, ...]

    def to_bytes(self) -> bytes:
        """The same bytes for the same files."""
        content = self.model_dump(mode="json", by_alias=True)
        return f"{json.dumps(content, sort_keys=True, indent=1, ensure_ascii=False)}\n".encode()

    @property
    def digests(self) -> dict[str, str]:
        """sha256 by path."""
        return {entry.path: entry.sha256 for entry in self.files}


def listing_of(bundle: Bundle) -> Listing:
    """The list of a bundle's files."""
    entries = tuple(
        FileEntry(path=file.path, size_bytes=file.size_bytes, sha256=file.sha256) for file in bundle.files
    )
    if any(entry.path == NAME for entry in entries):
        raise ValueError(f"{bundle.repo}: {NAME} is the name of the list itself")
    text = "".join(f"{entry.sha256}  {entry.path}\n" for entry in entries)
    return Listing(repo=bundle.repo, version=hashlib.sha256(text.encode()).hexdigest()[:16], files=entries)


def parse(data: bytes) -> Listing | None:
    """A list that was written before; None where it is none, one of a later version, or longer than any."""
    if len(data) > LARGEST_BYTES:
        return None
    try:
        listing = Listing.model_validate_json(data)
    except ValidationError:
        return None
    return listing if listing.schema_version == 1 else None


def name_of(repo: str) -> str:
    """What a repo is called at a place that is its owner's already."""
    return repo.rpartition("/")[2]


def blocks(
    file: ShippedFile, advance: Callable[[int], None], start: int = 0, size_bytes: int | None = None
) -> Iterator[bytes]:
    """The content from a place on, piece by piece; what is read to its end must be what was verified."""
    stop = file.size_bytes if size_bytes is None else min(start + size_bytes, file.size_bytes)
    hasher = hashlib.sha256()
    for block in _pieces(file, start, stop):
        hasher.update(block)
        yield block
        advance(len(block))
    if (start, stop) == (0, file.size_bytes) and hasher.hexdigest() != file.sha256:
        raise changed(file)


def _pieces(file: ShippedFile, start: int, stop: int) -> Iterator[bytes]:
    if isinstance(file.content, bytes):
        for place in range(start, stop, _BLOCK_BYTES):
            yield file.content[place : min(place + _BLOCK_BYTES, stop)]
        return
    with explained(file.content), file.content.open("rb", buffering=0) as stream:
        stream.seek(start)
        while start < stop:
            block = stream.read(min(_BLOCK_BYTES, stop - start))
            if not block:
                raise changed(file)
            start += len(block)
            yield block


def changed(file: ShippedFile) -> Failure:
    """A file that is no longer what it was when it was verified."""
    name = file.path if isinstance(file.content, bytes) else file.content
    return Failure(f"{name}: changed since it was verified", f"{REBUILT}; then verify it")


def moved(place: str) -> Failure:
    """Somebody else was at the same place."""
    return Failure(
        f"{place}: somebody changed it meanwhile, and nothing was published",
        "look at it, then run the same command again",
    )


@contextmanager
def here(path: Path) -> Iterator[None]:
    """Let no OSError pass untranslated; elsewhere is another place to publish to."""
    try:
        with explained(path):
            yield
    except Failure as failure:
        hint = failure.hint.replace("choose another folder with --out", "name another place to publish to")
        raise type(failure)(failure.message, hint) from failure.__cause__

"""Shards of a repo that are fetched when they are read: only their headers are here before."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from convert.progress import Progress
from convert.source.cache import RepoCache
from convert.source.download import RemoteFile, fetch_beginning
from convert.source.fetch import fetch_files, fetch_small
from convert.source.hub import Hub
from convert.source.listing import Listing, Pinned
from convert.source.parallel import Watch, run_all

_SUFFIX = ".safetensors"
_LENGTH_BYTES = 8  # before the header, and how long that is
_BEGINNING_BYTES = 128 << 10  # most headers are shorter
_LONGEST_BYTES = 100_000_000
_THREADS = 8


@dataclass(frozen=True)
class Absent:
    """A file of which only the beginning is here."""

    beginning: bytes
    size_bytes: int
    fetch: Callable[[], Path]  # bring it whole, and check it


def fetch_lazily(
    listing: Listing, *, hub: Hub, progress: Progress, remark: Callable[[str], None]
) -> tuple[Pinned, Mapping[str, Absent]] | None:
    """Fetch all but the shards, and of these the headers; None where files have to be here as a whole."""
    small = fetch_small(listing, hub=hub, progress=progress)
    shards = small.pending
    if (
        listing.folder
        or hub.is_offline
        or len(shards) < 2
        or not all(name.endswith(_SUFFIX) and digest.sha256 for name, digest in shards.items())
    ):
        return None
    cache = RepoCache(hub, listing.model, listing.kind)

    def whole(name: str) -> Path:
        remark(f"{name}: this part reads it")
        return fetch_files(listing, (name,), hub=hub).folder / name

    def absent(name: str, watch: Watch) -> Absent:
        remote = RemoteFile(str(listing.repo), str(listing.commit), name, listing.files[name], listing.kind)
        found = cache.find(str(listing.commit), name, shards[name])

        def beginning(size_bytes: int) -> bytes:
            size_bytes = min(size_bytes, shards[name].size_bytes)
            if found is None:
                return fetch_beginning(hub, remote, size_bytes, watch)
            with found.open("rb") as file:
                return file.read(size_bytes)

        data = beginning(_BEGINNING_BYTES)
        length = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        if len(data) < length <= _LONGEST_BYTES:
            data = beginning(length)
        return Absent(data, shards[name].size_bytes, partial(whole, name))

    watch = Watch(lambda _: None)
    found = run_all([partial(absent, name, watch) for name in shards], watch, _THREADS)
    pinned = replace(small, files=dict(sorted({**small.files, **shards}.items())), pending={})
    return pinned, dict(zip(shards, found, strict=True))

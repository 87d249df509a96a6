"""Checked files on disk, fetched by a listing."""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from convert.errors import Failure
from convert.model.card import base_models, front_matter
from convert.progress import Progress, Silent
from convert.recipe.lookup import expand_home
from convert.size import size
from convert.source.cache import RepoCache
from convert.source.digest import DigestNotes, digest_file, require_type
from convert.source.download import RemoteFile, download, unwritable
from convert.source.hub import COMMIT, REPO, Hub, check_names, list_repo
from convert.source.listing import (
    ADAPTER_CONFIG,
    CARD,
    FileDigest,
    Kind,
    Listing,
    Pinned,
    adapter_files,
    is_adapter,
    is_gguf,
    list_folder,
    small_files,
    weight_files,
)
from convert.source.parallel import Watch, run_all
from convert.strict_json import parse_object

_THREADS = 8
# What to leave free on a nearly full disk.
_SPARE_BYTES = 64 << 20
ONLINE = "run once without --offline and HF_HUB_OFFLINE"


def list_source(model: str, revision: str = "main", *, hub: Hub | None = None) -> Listing:
    """List the files of a local folder, or of a Hub repo at the revision's commit."""
    folder = expand_home(model)
    if folder.is_dir():
        return list_folder(model, folder)
    if folder.is_absolute() or model.startswith(("./", "../", "~")):
        raise Failure(f"{model}: no such folder", "check `model:` in the recipe")
    return _list_repo(model, revision, hub or Hub.from_environment(), "model")


def list_dataset(name: str, revision: str = "main", *, hub: Hub | None = None) -> Listing:
    """List the files of a dataset's repo at the revision's commit."""
    return _list_repo(name, revision, hub or Hub.from_environment(), "dataset")


def _list_repo(model: str, revision: str, hub: Hub, kind: Kind) -> Listing:
    check_names(model, revision)
    cache = RepoCache(hub, model, kind)
    commit = cache.read_ref(revision) if hub.is_offline or COMMIT.fullmatch(revision) else None
    known = cache.read_listing(model, commit) if commit else None
    if known:
        return known
    if hub.is_offline:
        if commit and (found := cache.read_snapshot(model, commit)):
            return found
        what = f"{model}: offline, and revision {revision!r} is not in {hub.cache}"
        raise Failure(what, f"{ONLINE}, or name a local folder")
    listing = list_repo(hub, model, revision, kind)
    with suppress(OSError):  # a read-only cache is enough if everything is in it
        cache.write_ref(revision, str(listing.commit))
    cache.write_listing(listing)
    return listing


def fetch_small(listing: Listing, *, hub: Hub | None = None, progress: Progress | None = None) -> Pinned:
    """Fetch everything but the weights, which stay `pending`: enough to refuse a model early."""
    hub = hub or Hub.from_environment()
    if is_gguf(listing):
        raise _refuse_gguf(listing, hub, progress)
    if is_adapter(listing):
        raise _refuse_adapter(listing, hub, progress)
    pinned = _fetch(listing, small_files(listing), hub, progress)
    weights = weight_files(listing, lambda name: (pinned.folder / name).read_bytes())
    return replace(pinned, pending={name: listing.files[name] for name in weights})


def _refuse_gguf(listing: Listing, hub: Hub, progress: Progress | None) -> Failure:
    """Name the model that GGUF files were made from, where their card does."""
    card: dict[str, Any] = {}
    if CARD in listing.files:
        card, _ = front_matter(_fetch(listing, (CARD,), hub, progress).folder)
    original = base_models(card) or "the model that they were made from"
    return Failure(f"{listing.model}: it holds GGUF files, which are not read", f"convert {original}")


def fetch(listing: Listing, *, hub: Hub | None = None, progress: Progress | None = None) -> Pinned:
    """Fetch and check everything that a conversion needs."""
    hub = hub or Hub.from_environment()
    small = fetch_small(listing, hub=hub, progress=progress)
    weights = _fetch(listing, tuple(small.pending), hub, progress)
    return replace(weights, files={**small.files, **weights.files})


def fetch_adapter(listing: Listing, *, hub: Hub | None = None, progress: Progress | None = None) -> Pinned:
    """Fetch and check a LoRA adapter, weights and all."""
    return _fetch(listing, adapter_files(listing), hub or Hub.from_environment(), progress)


def _refuse_adapter(listing: Listing, hub: Hub, progress: Progress | None) -> Failure:
    """Say how to write an adapter that was named as the model."""
    folder = _fetch(listing, (ADAPTER_CONFIG,), hub, progress).folder
    base = "the model that it was trained on"
    with suppress(OSError, Failure):
        config = parse_object((folder / ADAPTER_CONFIG).read_bytes(), ADAPTER_CONFIG, "")
        named = config.get("base_model_name_or_path")
        if isinstance(named, str) and REPO.fullmatch(named) and "/" in named:
            base = named
    place = f"./{listing.folder.name}" if listing.folder else listing.model
    return Failure(
        f"{listing.model}: an adapter, which is not a whole model",
        f"write in the recipe, on two lines, model: {base} and adapter: {place}",
    )


def fetch_files(
    listing: Listing, names: Iterable[str], *, hub: Hub | None = None, progress: Progress | None = None
) -> Pinned:
    """Fetch and check these files."""
    return _fetch(listing, tuple(names), hub or Hub.from_environment(), progress)


def missing_bytes(listing: Listing, names: Iterable[str], *, hub: Hub | None = None) -> int:
    """Return how many bytes of these files a fetch would still download."""
    if listing.folder:
        return 0
    cache = RepoCache(hub or Hub.from_environment(), listing.model, listing.kind)
    return sum(cache.missing_bytes(str(listing.commit), name, listing.files[name]) for name in names)


def _fetch(listing: Listing, names: tuple[str, ...], hub: Hub, progress: Progress | None) -> Pinned:
    cache = RepoCache(hub, listing.model, listing.kind)
    folder = listing.folder or cache.snapshot(str(listing.commit))
    fetcher = _Fetcher(listing, hub, cache, folder, DigestNotes(hub.notes))
    from_hub = fetcher.check_cached if hub.is_offline else fetcher.obtain
    job = fetcher.check_local if listing.folder else from_hub
    missing = 0 if hub.is_offline else missing_bytes(listing, names, hub=hub)
    if missing:
        _require_space(hub.cache, missing, listing.model)
        cache.sweep(digest.blob for digest in listing.files.values() if digest.blob)
    # The largest first, since it takes longest.
    order = sorted(names, key=lambda name: -listing.files[name].size_bytes)
    total_bytes = sum(listing.files[name].size_bytes for name in names)
    with (progress or Silent()).stage("download" if missing else "check", total_bytes) as tell:
        watch = Watch(tell)
        digests = run_all([partial(job, name, watch) for name in order], watch, _THREADS)
    return Pinned(folder, listing.repo, listing.commit, dict(sorted(zip(order, digests, strict=True))))


@dataclass(frozen=True)
class _Fetcher:
    """Gets one file after another, from where the listing and the hub say."""

    listing: Listing
    hub: Hub
    cache: RepoCache
    folder: Path
    notes: DigestNotes

    def check_local(self, name: str, watch: Watch) -> FileDigest:
        """Digest a file of a local folder."""
        path, expected = self.folder / name, self.listing.files[name]
        try:
            require_type(path, expected.size_bytes)
            digest = digest_file(path, expected, self.notes, watch)
        except OSError as error:
            raise Failure(f"{path}: cannot be read: {error.strerror}", "check the folder") from None
        if not digest.proves(expected):
            raise Failure(f"{path}: changed while being read", "wait for its writer, then run again")
        return digest

    def check_cached(self, name: str, watch: Watch) -> FileDigest:
        """Check a file that must be in the cache already (offline)."""
        where = f"{self.listing.model}/{name}"
        if not self.cache.find(str(self.listing.commit), name, self.listing.files[name]):
            raise Failure(f"{where}: offline, and not in the cache", ONLINE)
        try:
            found = self.digest_cached(name, watch)
        except OSError as error:
            raise unwritable(error, self.cache.folder, where) from None
        if not found:
            raise Failure(f"{where}: the cached copy is damaged", f"{ONLINE} to replace it")
        return found

    def obtain(self, name: str, watch: Watch) -> FileDigest:
        """Use the cached file if it is right, whichever tool fetched it; else download it."""
        expected = self.listing.files[name]
        key, commit = str(expected.blob), str(self.listing.commit)
        try:
            # Without the lock first: the cache may be read-only.
            if found := self.digest_cached(name, watch):
                return found
            with self.cache.lock(key, watch.stop):
                if found := self.digest_cached(name, watch):  # the lock's last holder may have fetched it
                    return found
                if damaged := self.cache.find(commit, name, expected):
                    damaged.unlink()  # so that no other tool trusts it if the download fails
                remote = RemoteFile(str(self.listing.repo), commit, name, expected, self.listing.kind)
                digest = download(self.hub, remote, self.cache.part(key), watch)
                blob = self.cache.blob(key)
                self.cache.part(key).replace(blob)
                self.notes.remember(blob, digest)
                self.cache.link(commit, name, blob)
                return digest
        except OSError as error:
            raise unwritable(error, self.cache.folder, f"{self.listing.model}/{name}") from None

    def digest_cached(self, name: str, watch: Watch) -> FileDigest | None:
        """Digest a cached file and show it in the snapshot, if it is what is expected."""
        expected, commit = self.listing.files[name], str(self.listing.commit)
        path = self.cache.find(commit, name, expected)
        if path is None:
            return None
        digest = digest_file(path, expected, self.notes, watch)
        if not digest.proves(expected):
            watch.advance(-digest.size_bytes)
            return None
        self.cache.link(commit, name, path)
        return digest


def _require_space(folder: Path, needed_bytes: int, model: str) -> None:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes + _SPARE_BYTES:
        what = f"{model}: {size(needed_bytes)} to download, {size(free_bytes)} free in {folder}"
        raise Failure(what, "free some, or set HF_HUB_CACHE to a folder on another disk")

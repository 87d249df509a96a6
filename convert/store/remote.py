"""Artifacts in an object store that several machines share; each keeps those that it needs in a folder.

An artifact's files are below a prefix named by its key, and a manifest, written last, names that key: whoever
reads it finds all files, and machines that build another state meanwhile are not in the way.
"""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from convert.errors import Failure, UsageFailure
from convert.store.manifest import LARGEST_BYTES, MANIFEST_NAME, FileEntry, Manifest, inside, parse_manifest
from convert.store.objects import Objects
from convert.store.part import ABANDONED_S, parts_name
from convert.store.paths import Paths, Removed, checked_name
from convert.store.staging import stage
from convert.store.upload import PARTS, Work, give_up

_THREADS = 8
_KEY_LENGTH = 16  # of a prefix's name
_EXAMPLE = (
    "write an address that fsspec knows, as s3://bucket/models; a folder that all machines see is --out"
)


@dataclass(frozen=True)
class Remote:
    """The artifacts and reports below one prefix."""

    place: Objects

    @classmethod
    def at(cls, address: str) -> Self:
        """Open the store at an address, or refuse the address."""
        if "://" not in address:
            raise UsageFailure(f"--store {address}: not an address", _EXAMPLE)
        return cls(Objects.reached(address, "--store", _EXAMPLE))

    def manifest(self, recipe: str, target: str) -> tuple[bytes, Manifest] | None:
        """Read the manifest of a finished artifact, if there is one."""
        path = f"{self._folder(recipe, target)}/{MANIFEST_NAME}"
        with self.place.asking():
            data = self.place.read(path, LARGEST_BYTES + 1)
        return None if data is None else (data, parse_manifest(data, self.shown(path)))

    def holds(self, recipe: str, target: str, key: str) -> bool:
        """Say whether the artifact there has this key, and all its files."""
        found = self.manifest(recipe, target)
        if found is None or found[1].key != key:
            return False
        return not self._lacking(recipe, target, key, found[1].files)

    def work(self, recipe: str, keys: Mapping[str, str]) -> Work:
        """Find the parts of these artifacts, by their targets' keys, made or not."""
        files = {target: self.prefix(recipe, target, key) for target, key in keys.items()}
        return Work(self.place, f"{self.place.root}/{PARTS}/{parts_name(recipe, keys.values())}", files)

    def prefix(self, recipe: str, target: str, key: str) -> str:
        """Return where the files of an artifact with this key are."""
        return f"{self._folder(recipe, target)}/{key[:_KEY_LENGTH]}"

    def push(
        self,
        recipe: str,
        manifest: Manifest,
        folder: Path,
        advance: Callable[[int], None] = lambda _: None,
    ) -> None:
        """Send what the store lacks of an artifact in a folder, and its manifest last."""
        prefix = self.prefix(recipe, manifest.target, manifest.key)

        def send(entry: FileEntry) -> None:
            path = inside(folder, entry.path)
            self.place.put_file(f"{prefix}/{entry.path}", path, advance)

        with self.place.asking():
            lacking = self._lacking(recipe, manifest.target, manifest.key, manifest.files)
            with ThreadPoolExecutor(_THREADS) as pool:
                for _ in pool.map(send, lacking):
                    pass
        self.show(recipe, manifest)

    def show(self, recipe: str, manifest: Manifest) -> None:
        """Let all see an artifact whose files are there: write its manifest, in one request."""
        path = f"{self._folder(recipe, manifest.target)}/{MANIFEST_NAME}"
        with self.place.asking():
            for entry in self._lacking(recipe, manifest.target, manifest.key, manifest.files):
                raise Failure(
                    f"{self.shown(path)}: {entry.path} was sent, and is not there at its size",
                    "run the same command again",
                )
            data = manifest.to_bytes()
            self.place.put(path, [data], len(data))

    def pull(
        self, paths: Paths, recipe: str, target: str, advance: Callable[[int], None] = lambda _: None
    ) -> Manifest | None:
        """Make a folder hold the artifact that the store has: fetch what it lacks, and check every file."""
        found = self.manifest(recipe, target)
        if found is None:
            return None
        manifest = found[1]
        prefix = self.prefix(recipe, target, manifest.key)
        with stage(paths, recipe, target, manifest.key) as staging:

            def bring(entry: FileEntry) -> None:
                path = inside(staging.path, entry.path)
                path.parent.mkdir(parents=True, exist_ok=True)
                self.place.files.get_file(f"{prefix}/{entry.path}", str(path))
                advance(entry.size_bytes)

            with self.place.asking(), ThreadPoolExecutor(_THREADS) as pool:
                for _ in pool.map(bring, manifest.files):
                    pass
            for entry, here in zip(manifest.files, staging.digest(), strict=True):
                if entry != here:
                    raise Failure(
                        f"{self.shown(prefix)}/{entry.path}: it is not what its manifest says",
                        f"remove {self.shown(self._folder(recipe, target))}, and convert again",
                    )
            return staging.commit(manifest)

    def push_reports(self, root: Path, folder: Path) -> None:
        """Send the files of a report's folder, which is below the folder of all artifacts."""
        names = sorted(path for path in folder.iterdir() if path.is_file())
        with self.place.asking():
            for path in sorted(names, key=lambda path: path.suffix == ".json"):  # what programs read, last
                data = path.read_bytes()
                where = f"{self.place.root}/{path.relative_to(root).as_posix()}"
                self.place.put(where, [data], len(data))

    def pull_reports(self, root: Path, folder: Path) -> None:
        """Bring the files of a report's folder, if there is one."""
        where = f"{self.place.root}/{folder.relative_to(root).as_posix()}"
        with self.place.asking():
            for name in self.place.sizes(where):
                if "/" not in name and not name.startswith("."):
                    folder.mkdir(parents=True, exist_ok=True)
                    self.place.files.get_file(f"{where}/{name}", str(folder / name))

    def sweep(self, *, dry_run: bool = False) -> tuple[Removed, ...]:
        """Remove parts that were given up, and files that no manifest names, once a day has passed."""
        with self.place.asking():
            return tuple(self._swept(dry_run=dry_run))

    def _swept(self, *, dry_run: bool) -> Iterator[Removed]:
        groups: dict[str, dict[str, int]] = {}
        for name, size_bytes in self.place.sizes(self.place.root).items():
            parts = name.split("/")
            depth = 2 if parts[0] == PARTS else 3
            if len(parts) > depth and (parts[0] == PARTS or parts[1] != "reports"):
                groups.setdefault("/".join(parts[:depth]), {})[name] = size_bytes
        for group, sizes in groups.items():
            recipe, target, *key = group.split("/")
            if recipe != PARTS:
                found = self.manifest(recipe, target)
                if found and found[1].key.startswith(key[0]):
                    continue
            if self._age_s(sizes) < ABANDONED_S:
                continue
            why = "work that nobody has gone on with for a day" if recipe == PARTS else "no manifest names it"
            yield Removed(f"{self.place.address}/{group}", why, sum(sizes.values()))
            if not dry_run:
                if recipe == PARTS:
                    give_up(self.place, f"{self.place.root}/{group}")
                self.place.files.rm([f"{self.place.root}/{name}" for name in sizes])

    def _age_s(self, names: Mapping[str, int]) -> float:
        """Say how long ago the newest of these was written."""
        now = datetime.now(UTC)
        written: list[datetime] = [self.place.files.modified(f"{self.place.root}/{name}") for name in names]
        return min((now - at.replace(tzinfo=at.tzinfo or UTC)).total_seconds() for at in written)

    def _lacking(
        self, recipe: str, target: str, key: str, files: tuple[FileEntry, ...]
    ) -> tuple[FileEntry, ...]:
        sizes = self.place.sizes(self.prefix(recipe, target, key))
        return tuple(entry for entry in files if sizes.get(entry.path) != entry.size_bytes)

    def _folder(self, recipe: str, target: str) -> str:
        return f"{self.place.root}/{checked_name(recipe, 'recipe')}/{checked_name(target, 'target')}"

    def shown(self, path: str) -> str:
        """Write a path in the store as a person does."""
        return f"{self.place.address}{path.removeprefix(self.place.root)}"

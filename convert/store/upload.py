"""Files that several machines fill together in an object store: the parts of uploads, completed last.

Every part of the work makes whole stretches of each file. On S3 a stretch is a part of a multipart upload,
of which nothing shows until it is completed; elsewhere each is an object, until they are joined.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from convert.errors import Failure
from convert.store.manifest import FileEntry, inside
from convert.store.objects import Objects
from convert.store.part import LEARNED, MARK, Marks, mark_of

PARTS = ".parts"
# S3 takes parts of at least 5 MiB, and at most 10,000 of them.
_STRETCH_BYTES = 8 << 20
_MOST_STRETCHES = 9_000
_MIB = 1 << 20
_THREADS = 8
_UPLOADS = "uploads.json"
_LESSONS = "lessons"
_LARGEST_BYTES = 64 << 20  # of a mark, which has a line for each stretch
_BLOCK_BYTES = 8 << 20
_AGAIN = "remove what is below .parts there, and make the parts again"


class Name(NamedTuple):
    """A file of an artifact."""

    target: str
    path: str

    def __str__(self) -> str:
        """Write it as a path."""
        return f"{self.target}/{self.path}"


class Stretch(NamedTuple):
    """A part of an upload that has arrived."""

    number: int  # from 0
    token: str  # by which the store knows it
    sha256: str


def stretch_bytes(size_bytes: int) -> int:
    """Choose how long the stretches of a file are, of which each is made by one machine."""
    return max(_STRETCH_BYTES, -(-size_bytes // _MOST_STRETCHES // _MIB) * _MIB)


class _Multipart:
    """S3's own: parts of an upload, of which nothing shows until it is completed."""

    def __init__(self, place: Objects) -> None:
        self._files = place.files

    def begin(self, path: str) -> str:
        return str(self._call("create_multipart_upload", path)["UploadId"])

    def put(self, path: str, upload: str, number: int, data: bytes) -> str:
        given = {"UploadId": upload, "PartNumber": number + 1, "Body": data}
        return str(self._call("upload_part", path, **given)["ETag"])

    def complete(self, path: str, upload: str, stretches: list[Stretch], size_bytes: int) -> None:  # noqa: ARG002
        parts = [{"PartNumber": each.number + 1, "ETag": each.token} for each in stretches]
        self._call("complete_multipart_upload", path, UploadId=upload, MultipartUpload={"Parts": parts})

    def abort(self, path: str, upload: str) -> None:
        with suppress(FileNotFoundError):  # somebody else was faster
            self._call("abort_multipart_upload", path, UploadId=upload)

    def give_up(self, path: str) -> None:
        """Abort all uploads to this very path, also those whose answer was lost."""
        bucket, key, _ = self._files.split_path(path)
        with suppress(PermissionError):  # not everybody may list them: a rule of the bucket's removes them
            found = self._files.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=key)
            for each in found.get("Uploads", ()):
                if each["Key"] == key:
                    self.abort(path, each["UploadId"])

    def _call(self, method: str, path: str, **given: Any) -> Any:
        bucket, key, _ = self._files.split_path(path)
        return self._files.call_s3(method, Bucket=bucket, Key=key, **given)


class _Joined:
    """Any other store: an object for each stretch, which are joined by reading and writing them again."""

    def __init__(self, place: Objects, root: str) -> None:
        self._place, self._root = place, root

    def put(self, path: str, upload: str, number: int, data: bytes) -> str:  # noqa: ARG002
        where = self._stretch(path, number)
        self._place.put(where, [data], len(data))
        return where

    def complete(self, path: str, upload: str, stretches: list[Stretch], size_bytes: int) -> None:  # noqa: ARG002
        blocks = chain.from_iterable(self._place.blocks(each.token) for each in stretches)
        self._place.put(path, blocks, size_bytes)

    def give_up(self, path: str) -> None:
        """Leave the objects to whoever removes the work."""

    def _stretch(self, path: str, number: int) -> str:
        return f"{self._root}/stretches/{hashlib.sha256(path.encode()).hexdigest()[:16]}/{number}"


@dataclass(frozen=True)
class Work(Marks):
    """Artifacts of which several machines each make a part."""

    place: Objects
    root: str  # of what is kept until they are complete
    prefixes: Mapping[str, str]  # where each artifact's files will be

    def send(
        self,
        made: Mapping[Name, tuple[Path, Iterable[int]]],
        advance: Callable[[int], None] = lambda _: None,
    ) -> dict[Name, list[Stretch]]:
        """Upload these stretches of every file; what has arrived of them before is replaced."""

        def send(job: tuple[Name, Path, int]) -> Stretch:
            name, path, number = job
            data = _read(path, number)
            token = way.put(self._path(name), uploads[str(name)], number, data)
            advance(len(data))
            return Stretch(number, token, hashlib.sha256(data).hexdigest())

        way = self._way()
        with self.place.asking():
            uploads = self._uploads(made)
            jobs = [(name, path, number) for name, (path, numbers) in made.items() for number in numbers]
            sent: dict[Name, list[Stretch]] = {name: [] for name in made}
            with ThreadPoolExecutor(_THREADS) as pool:
                for (name, *_), stretch in zip(jobs, pool.map(send, jobs), strict=True):
                    sent[name].append(stretch)
        return sent

    def take_lessons(self, folder: Path | None) -> None:
        if folder is None or not self.has_lessons:
            return
        where = f"{self.root}/{_LESSONS}"
        with self.place.asking():
            for name, size_bytes in self.place.sizes(where).items():
                path = inside(folder, name)
                if not path.is_file() or path.stat().st_size != size_bytes:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    arriving = path.with_name(f"{path.name}.{os.getpid()}.part")
                    self.place.files.get_file(f"{where}/{name}", str(arriving))
                    arriving.replace(path)

    def hand_on(self, folder: Path | None) -> None:
        with self.place.asking():
            for path in sorted(folder.rglob("*")) if folder else ():
                # The states are of use to whoever learns alone.
                if path.is_file() and not path.name.startswith("states-"):
                    name = path.relative_to(folder or path).as_posix()
                    self.place.put_file(f"{self.root}/{_LESSONS}/{name}", path)
            self.place.put(f"{self.root}/{LEARNED}", [b""], 0)

    def finish(self, number: int, count: int, sent: Mapping[Name, list[Stretch]]) -> None:
        """Mark a part as finished, with what puts its stretches in their places."""
        data = json.dumps({str(name): stretches for name, stretches in sent.items()}).encode()
        with self.place.asking():
            self.place.put(f"{self.root}/{mark_of(number, count)}", [data], len(data))

    def complete(
        self, sizes: Mapping[Name, int], count: int, advance: Callable[[int], None] = lambda _: None
    ) -> dict[Name, FileEntry]:
        """Complete every file that so many parts have made, and read it back for its digest."""

        def complete(name: Name) -> FileEntry:
            path, size_bytes, stretches = self._path(name), sizes[name], known[name]
            if self._size_bytes(path) != size_bytes:
                try:
                    way.complete(path, uploads[str(name)], stretches, size_bytes)
                except Exception:
                    if self._size_bytes(path) != size_bytes:  # else only the answer was lost
                        raise
            way.give_up(path)
            return self._read_back(name, stretches, size_bytes, advance)

        way = self._way()
        with self.place.asking():
            known = {name: self._stretches(name, size_bytes, count) for name, size_bytes in sizes.items()}
            uploads = self._uploads(sizes)
            with ThreadPoolExecutor(_THREADS) as pool:
                return dict(zip(sizes, pool.map(complete, sizes), strict=True))

    def add(self, target: str, files: Mapping[str, bytes]) -> list[FileEntry]:
        """Add small files to an artifact, each written whole."""
        with self.place.asking():
            for name, data in files.items():
                self.place.put(self._path(Name(target, name)), [data], len(data))
        return [
            FileEntry(path=name, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for name, data in files.items()
        ]

    def remove(self) -> None:
        """Remove what is of no use once the artifacts are complete."""
        with self.place.asking(), suppress(FileNotFoundError):
            self.place.files.rm(self.root, recursive=True)

    def _marks(self) -> set[str]:
        with self.place.asking():
            return {name for name in self.place.sizes(self.root) if name.startswith(MARK)}

    def _way(self) -> _Multipart | _Joined:
        return _way(self.place, self.root)

    def _uploads(self, names: Iterable[Name]) -> dict[str, str]:
        """Agree with all other machines on one upload for each file: whoever comes first begins them."""
        way = self._way()
        if isinstance(way, _Joined):
            return dict.fromkeys(map(str, names), "")
        path = f"{self.root}/{_UPLOADS}"
        if (known := _known(self.place, path)) is not None:
            return {name: upload for name, (_, upload) in known.items()}
        mine = {str(name): (self._path(name), way.begin(self._path(name))) for name in names}
        try:
            self.place.files.pipe_file(path, json.dumps(mine).encode(), mode="create")
        except Exception:
            if _known(self.place, path) is None:
                raise
        known = _known(self.place, path) or mine
        for name, (where, upload) in mine.items():
            if known[name][1] != upload:
                way.abort(where, upload)
        return {name: upload for name, (_, upload) in known.items()}

    def _stretches(self, name: Name, size_bytes: int, count: int) -> list[Stretch]:
        """Gather from all marks how a file is put together."""
        found: list[Stretch] = []
        for number in range(1, count + 1):
            data = self.place.read(f"{self.root}/{mark_of(number, count)}", _LARGEST_BYTES)
            found += (Stretch(*each) for each in json.loads(data or b"{}").get(str(name), ()))
        found.sort()
        if [each.number for each in found] != [*range(-(-size_bytes // stretch_bytes(size_bytes)))]:
            raise Failure(f"{self.place.address}: the parts of {name} do not make it whole", _AGAIN)
        return found

    def _read_back(
        self, name: Name, stretches: list[Stretch], size_bytes: int, advance: Callable[[int], None]
    ) -> FileEntry:
        """Digest a file that was put together, and compare each stretch with what was sent."""
        whole, length = hashlib.sha256(), stretch_bytes(size_bytes)
        with self.place.files.open(self._path(name), "rb", block_size=_BLOCK_BYTES) as stream:
            for each in stretches:
                hasher, left_bytes = hashlib.sha256(), length
                while left_bytes and (block := stream.read(min(_BLOCK_BYTES, left_bytes))):
                    hasher.update(block)
                    whole.update(block)
                    left_bytes -= len(block)
                    advance(len(block))
                if hasher.hexdigest() != each.sha256:
                    raise Failure(f"{self.place.address}: {name} arrived damaged", _AGAIN)
        return FileEntry(path=name.path, size_bytes=size_bytes, sha256=whole.hexdigest())

    def _path(self, name: Name) -> str:
        return f"{self.prefixes[name.target]}/{name.path}"

    def _size_bytes(self, path: str) -> int | None:
        self.place.files.invalidate_cache()
        try:
            return int(self.place.files.info(path)["size"])
        except FileNotFoundError:
            return None


def give_up(place: Objects, root: str) -> None:
    """Abort what a work has begun; its own objects are left to be removed."""
    way = _way(place, root)
    for path, _ in (_known(place, f"{root}/{_UPLOADS}") or {}).values():
        way.give_up(path)


def _way(place: Objects, root: str) -> _Multipart | _Joined:
    return _Multipart(place) if hasattr(place.files, "call_s3") else _Joined(place, root)


def _known(place: Objects, path: str) -> dict[str, tuple[str, str]] | None:
    data = place.read(path, _LARGEST_BYTES)
    return (
        None
        if data is None
        else {name: (where, upload) for name, (where, upload) in json.loads(data).items()}
    )


def _read(path: Path, number: int) -> bytes:
    length = stretch_bytes(path.stat().st_size)
    with path.open("rb") as stream:
        stream.seek(number * length)
        return stream.read(length)

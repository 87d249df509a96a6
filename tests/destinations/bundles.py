"""Small bundles, which no place can tell from large ones."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING

from convert.publish.bundle import Bundle, Candidate, ShippedFile
from convert.source.retry import RetryLimits
from tests.provenance.publication import manifest_of
from tests.verify import reports

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from convert.publish.destination import Destination, Sent

NAME = "Tiny-GGUF"
QUICK = RetryLimits(tries=4, first_wait_s=0.001, longest_wait_s=0.002, total_wait_s=2.0, read_timeout_s=20.0)
MODEL_BYTES = 150_000


def content(seed: int, size_bytes: int = MODEL_BYTES) -> bytes:
    """Bytes that are the same for the same seed, and nowhere else."""
    return random.Random(seed).randbytes(size_bytes)


FILES: Mapping[str, bytes] = {
    "README.md": b"# Tiny\n",
    "Tiny-Q4_K_M.gguf": content(4),
    "Tiny-Q8_0.gguf": content(8),
    "LICENSE": b"the licence",
    "cpu-int4/LICENSE": b"the licence",
    "cpu-int4/empty.txt": b"",
    "gguf-Q8_0/manifest.json": b"{}",
}
NEXT: Mapping[str, bytes] = {**FILES, "README.md": b"# Tiny, again\n", "Tiny-Q8_0.gguf": content(80)}


def bundle_of(folder: Path, files: Mapping[str, bytes] = FILES, tag: str | None = None) -> Bundle:
    """A bundle of these files: the larger ones on disk, as artifacts are, the others made on the way."""
    shipped = []
    for path, data in sorted(files.items()):
        file = ShippedFile.made(path, data)
        if len(data) > 1000:
            place = folder / file.sha256
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
            file = replace(file, content=place)
        shipped.append(file)
    manifest, result = manifest_of("gguf-Q8_0"), reports.artifact("gguf-Q8_0")
    candidate = Candidate("gguf-Q8_0", folder, manifest, "0" * 64, result)
    return Bundle(
        repo=f"somebody/{NAME}",
        title="Tiny",
        suffix="GGUF",
        candidates=(candidate,),
        report=reports.report(result),
        files=tuple(shipped),
        tag=tag,
    )


class Counted:
    """Progress, added up."""

    def __init__(self) -> None:
        self.stages: dict[str, tuple[int, int]] = {}

    def stage(self, label: str, total_bytes: int) -> AbstractContextManager[_Adding]:
        """Open a stage."""
        return _Stage(self, label, total_bytes)


class _Adding:
    def __init__(self) -> None:
        self.done = 0

    def __call__(self, count: int) -> None:
        self.done += count


class _Stage:
    def __init__(self, counted: Counted, label: str, total_bytes: int) -> None:
        self._counted, self._label, self._total = counted, label, total_bytes
        self._adding = _Adding()

    def __enter__(self) -> _Adding:
        return self._adding

    def __exit__(self, *_: object) -> None:
        self._counted.stages[self._label] = (self._adding.done, self._total)


def publish(place: Destination, bundle: Bundle) -> Sent:
    """All that a publication does at a place, its progress told to the byte."""
    counted = Counted()
    sent = place.send(bundle, place.survey(bundle), counted)
    place.read_back(bundle, sent, counted)
    for done, total in counted.stages.values():
        assert done == total
    return sent


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in walk(folder) if path.is_file()}


def walk(folder: Path) -> Iterator[Path]:
    """Everything below, in order."""
    return iter(sorted(folder.rglob("*")))

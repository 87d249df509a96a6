"""What an interrupted verification knows of an artifact: kept as it comes, removed when one is finished."""

from __future__ import annotations

import hashlib
import json
import zipfile
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import numpy as np

from verify.answer_cache import cached
from verify.atomic import replacing
from verify.logprobs import Comparison, compare_logits
from verify.report import Opened

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from verify.answerer import WorkerAnswerer
    from verify.logprobs import Reference
    from verify.scenarios.prompt import Answerer
    from verify.task import Subject
    from verify.worker import Worker


class Kept:
    """An artifact's answers and odds so far, by the files that it has and the runtime that opens it.

    A server's are not kept: nothing here shows that it is still the same.
    """

    def __init__(self, folder: Path | None, subject: Subject) -> None:
        self._folder = folder
        self._subject = subject
        self._made: list[Path] = []

    def answering(self, answerer: WorkerAnswerer, worker: Worker) -> AbstractContextManager[Answerer]:
        """Answer from what was kept, and keep each new answer."""
        path = self._path(worker, "answers", answerer.seats)
        return cached(answerer, path) if path else nullcontext(answerer)

    def compare(self, worker: Worker, reference: Reference) -> Comparison:
        """Compare its odds with the reference, or read what came of it before."""
        path = self._path(worker, "odds", reference.path.name)
        found = _read(path, reference) if path else None
        if found is None:
            found = compare_logits(worker, reference)
            if path:
                with suppress(OSError), replacing(path) as file:  # without it, it is done again
                    np.savez(file, **vars(found))
        return found

    def forget(self) -> None:
        """Remove all of it: the next verification asks again."""
        for path in self._made:
            path.unlink(missing_ok=True)

    def _path(self, worker: Worker, kind: str, *also: object) -> Path | None:
        subject = self._subject
        if self._folder is None or isinstance(subject.path, str) or subject.server:
            return None
        opened = Opened.of(worker).model_dump(mode="json")
        known = [_listed(subject.path), subject.runtime, dict(subject.options), opened, *also]
        text = json.dumps(known, sort_keys=True)
        path = self._folder / f"artifact-{hashlib.sha256(text.encode()).hexdigest()}.{kind}"
        self._made.append(path)
        return path


def _listed(artifact: Path) -> list[tuple[str, int, int]]:
    """List the files by name, size and time: one that is written again has another time."""
    files = (
        [artifact] if artifact.is_file() else sorted(each for each in artifact.rglob("*") if each.is_file())
    )
    stats = [(str(file.absolute()), file.stat()) for file in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def _read(path: Path, reference: Reference) -> Comparison | None:
    """Read a comparison; a damaged one is none."""
    shape = (len(reference.windows.ids), len(reference.windows.scored))
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            found = Comparison(**arrays)
    except (OSError, ValueError, TypeError, zipfile.BadZipFile):
        return None
    whole = all(each.shape == shape and np.isfinite(each).all() for each in vars(found).values())
    return found if whole else None

"""An interrupted verification goes on with what it knows of an artifact, and a finished one forgets it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import pytest

from tests.verify.test_answer_cache import Counting
from tests.verify.test_quality import IDS, Table, worker
from verify.logprobs import cut, save_reference
from verify.resume import Kept
from verify.task import Subject

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from verify.answerer import WorkerAnswerer
    from verify.worker import Worker


class Open(Table):
    """An artifact that is open."""

    versions: dict[str, str] = {}  # noqa: RUF012


class Seated(Counting):
    seats = 1


def has_kept(folder: Path, subject: Subject, model: Worker, answerer: Seated) -> tuple[Kept, int]:
    """Ask it, as a verification that is interrupted; return how often the artifact was asked again."""
    kept, before = Kept(folder, subject), answerer.asked
    with kept.answering(cast("WorkerAnswerer", answerer), model) as asked:
        asked.complete("a", 5, ())
    return kept, answerer.asked - before


@pytest.mark.parametrize("server", [None, "vllm"])
def test_what_is_known_is_not_asked_again(tmp_path: Path, server: str | None) -> None:
    file, notes = tmp_path / "m.gguf", tmp_path / "notes"
    file.write_bytes(b"1")
    subject = Subject("m", file, server=server)
    reference = save_reference(worker(Table(1)), cut(IDS, 32), tmp_path / "logits")
    table, answerer = Open(2), Seated()
    model = worker(table)

    def ask() -> tuple[Kept, int, int]:
        before = table.asked
        kept, answered = has_kept(notes, subject, model, answerer)
        found.append(kept.compare(model, reference).divergence)
        return kept, answered, table.asked - before

    found: list[NDArray[np.float64]] = []
    windows = len(reference.windows.ids)
    kept, *asked = ask()
    assert asked == [1, windows]
    kept, *asked = ask()
    assert asked == ([1, windows] if server else [0, 0])
    if server:
        assert not notes.exists()
        return
    for odds in notes.glob("*.odds"):
        odds.write_bytes(odds.read_bytes()[:-40])
    kept, *asked = ask()
    assert asked == [0, windows]
    os.utime(file, (1, 1))
    kept, *asked = ask()
    assert asked == [1, windows]
    kept.forget()
    kept, *asked = ask()
    assert asked == [1, windows]
    assert all((each == found[0]).all() for each in found)

"""Circumstances of speeds: other programs that disturb a measurement, and figures that differ too much."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.verify import reports
from verify import circumstances
from verify.circumstances import Circumstances, Observer
from verify.report import markdown
from verify.sample import Spread

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_what_others_take_is_what_is_busy_beyond_our_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stat = tmp_path / "stat"
    monkeypatch.setattr(circumstances, "STAT", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    clock = iter((0.0, 10.0))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    tick = os.sysconf("SC_CLK_TCK")
    # Each processor worked for 8 s of 10; the third is not ours to use.
    stat.write_text("cpu 9 0 0 0 0\ncpu0 0 0 0 5 5\ncpu1 0 0 0 5 5\ncpu2 0 0 0 0 0\n", "ascii")
    observer = Observer()
    busy = f"cpu 9 0 0 0 0\ncpu0 {6 * tick} 0 {2 * tick} 99 9\ncpu1 {8 * tick} 0 0 9 9\n"
    stat.write_text(f"{busy}cpu2 {99 * tick} 0 0 0 0\n", "ascii")
    found = observer.circumstances()
    assert found.others_cores is not None
    assert 1.3 < found.others_cores <= 1.6  # of which this test itself used next to nothing
    assert (found.cores, found.is_busy) == (2, True)
    stat.unlink()
    clock = iter((0.0, 1.0))
    assert Observer().circumstances().others_cores is None


def test_a_disturbed_or_uneven_measurement_comes_with_a_caution() -> None:
    made = reports.artifact("gguf-Q8_0")
    assert made.speed
    even = Spread(25.0, 24.0, 26.0, 5)
    calm = replace(
        made.speed,
        prefill_tok_s=even,
        decode_tok_s=even,
        circumstances=Circumstances("2026-11-26", 1.0, 2),
    )
    assert calm.cautions == ()
    busy = replace(
        calm, circumstances=Circumstances("2026-11-26", 1.1, 2), decode_tok_s=Spread(25, 20, 26, 5)
    )
    assert busy.cautions == (
        "other programs kept 1.1 of 2 cores busy",
        "the middle half of decoding speeds spans 24% of their median",
    )
    text = markdown.render(reports.report(made.model_copy(update={"speed": busy})))
    assert "1.1 of 2 cores busy" in text
    assert "2026-11-26" in text

"""How kernels that are ready, or on their way, change what encoding is expected to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from convert.pipeline.encoding import COMPILING, Encoding
from convert.writer.codecs import lanes
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.lanes.prepare import COMPILING_S
from convert.writer.codecs.plain import Plain
from convert.writer.speed import Speeds, probe
from convert.writer.speed.table import KERNEL_GAIN

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from convert.writer.codecs import Codec

LIBGGML_PER_S = 10e6  # weights
KERNEL_PER_S = 100e6


@pytest.fixture(autouse=True)
def _speeds(monkeypatch: pytest.MonkeyPatch) -> None:
    def per_s(_: object, __: int) -> float:
        return KERNEL_PER_S if lanes.ready else LIBGGML_PER_S

    monkeypatch.setattr(probe, "per_s", per_s)
    monkeypatch.setattr(probe, "encoding", lambda _: None)
    for name in list(lanes.ready):
        monkeypatch.delitem(lanes.ready, name)


def foreseen(folder: Path, weights: Mapping[Codec, int], threads: int = 2) -> dict[str, float]:
    return Encoding(Speeds(folder, threads), folder, threads).core_s(weights)


def test_little_work_does_not_wait_for_a_compiler(tmp_path: Path) -> None:
    found = foreseen(tmp_path, {Ggml("Q4_K"): 10**8, Plain("F32"): 10**8})
    assert found == {"Q4_K": pytest.approx(10), "F32": pytest.approx(10)}


def test_libggml_encodes_while_a_kernel_is_compiled(tmp_path: Path) -> None:
    found = foreseen(tmp_path, {Ggml("Q4_K"): 10**9})
    # While a core compiles, two of them would have encoded that much of the hundred seconds' work.
    meanwhile_s = 2 * COMPILING_S
    encoding_s = meanwhile_s + (100 - meanwhile_s) / KERNEL_GAIN
    assert found == {"Q4_K": pytest.approx(encoding_s), COMPILING: pytest.approx(COMPILING_S)}


def test_a_kernel_that_is_ready_encodes_all(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(lanes.ready, "Q4_K", lambda *_: None)
    assert foreseen(tmp_path, {Ggml("Q4_K"): 10**9}) == {"Q4_K": pytest.approx(10)}

"""How kernels that are ready, or on their way, change what encoding is expected to take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from convert.pipeline.encoding import COMPILING, Encoding
from convert.writer.codecs import lanes
from convert.writer.codecs.ggml import Ggml
from convert.writer.codecs.plain import Plain
from convert.writer.speed import Speeds, probe

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
    # In the ten seconds that a core compiles, two would have encoded a fifth of it.
    assert found == {"Q4_K": pytest.approx(20 + 0.8 * 100 / 5), COMPILING: pytest.approx(10)}


def test_a_kernel_that_is_ready_encodes_all(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(lanes.ready, "Q4_K", lambda *_: None)
    assert foreseen(tmp_path, {Ggml("Q4_K"): 10**9}) == {"Q4_K": pytest.approx(10)}

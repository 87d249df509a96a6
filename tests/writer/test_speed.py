"""The table of a machine's speeds: measured once, kept, and never worth a wait for little work."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from convert.writer.codecs import lanes
from convert.writer.codecs.ggml import BLOCK_TYPES, Ggml
from convert.writer.codecs.plain import Plain
from convert.writer.speed import Disk, Speeds, probe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from convert.writer.codecs import Codec

MANY = 10**9


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stand in for the clock: everything is done a hundred times a second."""
    calls: list[int] = []

    def per_s(work: Callable[[], int], _: int) -> float:
        calls.append(work())
        return 100.0 * calls[-1]

    monkeypatch.setattr(probe, "per_s", per_s)
    return calls


def test_what_was_measured_is_kept_for_the_next_plan(tmp_path: Path, measured: list[int]) -> None:
    codec = Plain("BF16")
    first = Speeds(tmp_path, 2).encoding_s(codec, MANY)
    (path,) = (tmp_path / "speeds").iterdir()
    assert json.loads(path.read_text()) == {"BF16": 100.0 * measured[0]}
    assert first == MANY / (100.0 * measured[0])
    assert Speeds(tmp_path, 2).encoding_s(codec, MANY) == first
    assert len(measured) == 1


@pytest.mark.usefixtures("measured")
def test_an_importance_is_another_kind_of_work(tmp_path: Path) -> None:
    speeds = Speeds(tmp_path, 1)
    plain, weighed = Ggml("Q4_K"), Ggml("Q4_K", bytes(4 * 256))
    for codec in (plain, weighed, Ggml("Q4_K", b"\1" * 4 * 256)):
        speeds.encoding_s(codec, MANY)
    (path,) = (tmp_path / "speeds").iterdir()
    assert sorted(json.loads(path.read_text())) == ["Q4_K", "Q4_K by importance"]


@pytest.mark.parametrize("codec", [Ggml("Q4_K"), Plain("F16")], ids=lambda codec: codec.name)
def test_little_work_is_not_measured(tmp_path: Path, measured: list[int], codec: Codec) -> None:
    speeds = Speeds(tmp_path, 1)
    assert 0 < speeds.encoding_s(codec, 1000) < 0.001
    assert speeds.disk(tmp_path / "not" / "yet", 1000) == Disk()
    assert not measured
    assert not (tmp_path / "speeds").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"Q4_K": "fast"}', '{"Q4_K": '])
def test_a_damaged_table_is_measured_again(tmp_path: Path, measured: list[int], content: str) -> None:
    Speeds(tmp_path, 1).encoding_s(Ggml("Q4_K"), MANY)
    (path,) = (tmp_path / "speeds").iterdir()
    path.write_text(content)
    assert Speeds(tmp_path, 1).encoding_s(Ggml("Q4_K"), MANY) == MANY / (100.0 * measured[0])
    assert len(measured) == 2


def test_a_home_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, measured: list[int]) -> None:
    (tmp_path / "speeds").write_text("a file is in the way")
    assert Speeds(tmp_path, 1).encoding_s(Ggml("Q8_0"), MANY) > 0
    assert measured


def test_every_kind_of_work_can_be_tried() -> None:
    works = [
        probe.encoding(Ggml("IQ4_XS")),
        probe.encoding(Ggml("Q4_K", b"\0\0\x80?" * 512)),
        probe.widening("BF16"),
        probe.merging(),
        probe.hashing(),
        probe.products(),
    ]
    assert all(work() > 0 for work in works)


def test_a_disk_is_asked_in_the_nearest_folder_that_is_there(tmp_path: Path) -> None:
    found = Speeds(tmp_path / "cache", 1).disk(tmp_path / "out" / "later", MANY)
    assert found.copied_per_s > 0
    assert found.taken_per_s > 0
    assert list(tmp_path.iterdir()) == []


def test_slower_types_have_slower_guesses() -> None:
    assert BLOCK_TYPES["IQ4_XS"].weights_per_s < BLOCK_TYPES["Q8_0"].weights_per_s


def test_a_kernel_that_is_not_compiled_yet_is_guessed(tmp_path: Path, measured: list[int]) -> None:
    speeds, codec = Speeds(tmp_path, 1), Ggml("Q4_K")
    libggml_s = speeds.encoding_s(codec, MANY)
    assert speeds.kernel_s(codec, MANY, tmp_path / "kernels") == pytest.approx(libggml_s / 5)
    assert len(measured) == 1


def test_a_kernel_that_is_ready_is_measured(tmp_path: Path, measured: list[int], monkeypatch: Any) -> None:
    used: list[int] = []

    def encode(source: Any, _: Any, out: Any) -> None:
        used.append(source.size)
        out[:] = 0

    monkeypatch.setitem(lanes.ready, "Q4_K", encode)
    folder = tmp_path / "kernels"
    folder.mkdir()
    (folder / "Q4_K").touch()
    speeds = Speeds(tmp_path, 1)
    assert speeds.kernel_s(Ggml("Q4_K"), MANY, folder) == MANY / (100.0 * measured[0])
    assert used
    (path,) = (tmp_path / "speeds").iterdir()
    assert list(json.loads(path.read_text())) == ["Q4_K by kernels"]

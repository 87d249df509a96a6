"""Several machines make parts of one conversion: together the bytes are those of one machine."""

from __future__ import annotations

import os
import random
import shutil
from typing import TYPE_CHECKING

import pytest

from convert.cli import app
from convert.errors import Exit
from convert.store import Remote, Store
from convert.writer.share import Part
from tests import tiny
from tests.hf import describing
from tests.pipeline.sharing import TARGETS, contents, make_home, ran

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of a model in two files."""
    make_home(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow  # over an object store, the same is among the quick ones
@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_bytes_are_those_of_one_machine(home: Path, count: int) -> None:
    assert ran("convert", "m.yaml", "--out", "whole") == Exit.DONE
    order = list(range(1, count + 1))
    random.Random(count).shuffle(order)
    for number in order:
        assert ran("convert", "m.yaml", "--out", "shared", "--part", f"{number}/{count}") == Exit.DONE
    assert not (home / "shared" / "m").exists()  # nothing is visible before all is there
    assert ran("assemble", "m.yaml", "--out", "shared") == Exit.DONE
    assert contents(home / "shared" / "m") == contents(home / "whole" / "m")
    assert not list((home / "shared" / ".parts").iterdir())
    assert ran("convert", "m.yaml", "--out", "shared", "--part", "1/2") == Exit.DONE  # up to date


def test_missing_parts_are_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("assemble", "m.yaml") == Exit.FAILED
    assert "no part of these artifacts is there" in capsys.readouterr().err
    for number in (1, 4):
        assert ran("convert", "m.yaml", "--part", f"{number}/4") == Exit.DONE
    assert ran("assemble", "m.yaml") == Exit.FAILED
    said = capsys.readouterr().err
    assert "parts are missing: 2/4, 3/4" in said
    assert "--part 2/4" in said
    assert not (home / "artifacts" / "m").exists()


@pytest.mark.slow
def test_a_part_that_died_is_made_again_and_one_that_is_done_is_not(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran("convert", "m.yaml", "--part", "1/2") == Exit.DONE
    (folder,) = (home / "artifacts" / ".parts").iterdir()
    (folder / "done-1-of-2").unlink()
    for path in folder.rglob("*.gguf"):  # what a part that was killed left
        os.truncate(path, 100)
    assert ran("convert", "m.yaml", "--part", "2/2") == Exit.DONE
    assert app.run(["convert", "m.yaml", "--part", "1/2", "--offline"]) == Exit.DONE
    assert app.run(["convert", "m.yaml", "--part", "1/2", "--offline"]) == Exit.DONE
    assert "part 1/2 is there already" in capsys.readouterr().err
    assert ran("assemble", "m.yaml") == Exit.DONE
    assert ran("convert", "m.yaml", "--out", "whole") == Exit.DONE
    assert contents(home / "artifacts" / "m") == contents(home / "whole" / "m")


@pytest.mark.slow
def test_parts_of_another_source_are_not_mixed_in(home: Path) -> None:
    assert ran("convert", "m.yaml", "--part", "1/2") == Exit.DONE
    describing.make(home / "other", tiny.Recipe("qwen3_moe", seed=7))
    (home / "m.yaml").write_text(f"model: other\n{TARGETS}", "utf-8")
    assert ran("convert", "m.yaml", "--part", "2/2") == Exit.DONE
    assert ran("assemble", "m.yaml") == Exit.FAILED


LEARNING = """\
model: source
targets: {gguf: {quants: [Q4_K_M], imatrix: calibration}, onnx: {precision: int4, rounding: gptq}}
calibration: {text: text.txt, samples: 2, length: 64}
"""


@pytest.mark.slow
@pytest.mark.parametrize("store", ["", "memory://lessons/models"])
def test_what_is_learned_from_the_whole_is_learned_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: str
) -> None:
    (home / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 200, "utf-8")
    (home / "m.yaml").write_text(LEARNING, "utf-8")
    assert ran("convert", "m.yaml", "--out", "whole") == Exit.DONE
    words = ("--store", store) if store else ()
    assert ran("convert", "m.yaml", "--part", "2/2", *words) == Exit.FAILED
    assert "make part 1/2 first" in capsys.readouterr().err
    assert ran("convert", "m.yaml", "--part", "1/2", *words) == Exit.DONE

    def learned_again(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("convert.learning.write_layer", learned_again)
    if store:
        shutil.rmtree(home / "artifacts")
    assert ran("convert", "m.yaml", "--part", "2/2", *words) == Exit.DONE
    assert ran("assemble", "m.yaml", *words) == Exit.DONE
    if store:
        for target in ("gguf-Q4_K_M", "onnx-int4-cpu"):
            Remote.at(store).pull(Store(home / "artifacts"), "m", target)
    assert contents(home / "artifacts" / "m") == contents(home / "whole" / "m")
    assert not [*(home / "artifacts").glob(".lessons/*")]


def test_what_a_tool_makes_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "m.yaml").write_text(
        "model: source\ntargets: {awq: {}}\ncalibration: {text: text.txt, samples: 2, length: 64}\n", "utf-8"
    )
    (home / "text.txt").write_text("The quick brown fox jumps over the lazy dog. " * 200, "utf-8")
    assert ran("convert", "m.yaml", "--part", "1/2") == Exit.FAILED
    assert "awq: a tool makes it from the whole model" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["0/2", "3/2", "1", "1/0", "a/b", "1/20000"])
def test_a_part_is_one_of_so_many(home: Path, given: str) -> None:
    assert ran("convert", str(home / "m.yaml"), "--part", given) == Exit.USAGE


def test_every_slice_is_in_one_part() -> None:
    for count in (1, 2, 3, 10):
        for at in range(0, 1000, 7):
            assert 1 <= Part(1, count).number_at(at, 1000) <= count


@pytest.mark.slow
def test_parts_that_were_given_up_are_cleaned(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("convert", "m.yaml", "--part", "1/2") == Exit.DONE
    (folder,) = (home / "artifacts" / ".parts").iterdir()
    assert app.run(["clean", "--quiet"]) == Exit.DONE
    assert folder.is_dir()
    for path in (folder, *folder.rglob("*")):
        os.utime(path, (0, 0))
    assert app.run(["clean"]) == Exit.DONE
    assert "for a day" in capsys.readouterr().out
    assert not folder.exists()

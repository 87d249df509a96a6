"""Several machines make one conversion over an object store: the bytes are those of one machine."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING

import fsspec  # type: ignore[import-untyped]
import pytest

from convert.cli import app
from convert.errors import Exit, Failure
from convert.store import Remote, Store
from tests.pipeline.sharing import contents, make_home, ran

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STRETCH_BYTES = 40_000  # cuts tensors, and slices, of these models


@pytest.fixture
def address() -> Iterator[str]:
    made = f"memory://{uuid.uuid4()}/models"
    yield made
    files = fsspec.filesystem("memory")
    if files.exists(made):
        files.rm(made, recursive=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_home(tmp_path, "publish: {to: released}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("convert.store.upload._STRETCH_BYTES", STRETCH_BYTES)
    return tmp_path


def pulled(address: str, folder: Path) -> dict[str, bytes]:
    """Fetch everything as a node does."""
    remote, store = Remote.at(address), Store(folder)
    for target in ("gguf-Q4_K_M", "gguf-F16", "onnx-int4-cpu", "hf"):
        remote.pull(store, "m", target)
    return contents(folder / "m")


@pytest.mark.parametrize("count", [3, *(pytest.param(count, marks=pytest.mark.slow) for count in (1, 7))])
def test_the_bytes_are_those_of_one_machine(home: Path, address: str, count: int) -> None:
    assert ran("convert", "m.yaml", "--out", "whole") == Exit.DONE
    order = list(range(1, count + 1))
    random.Random(count).shuffle(order)
    for number in order:
        part = ("--part", f"{number}/{count}", "--out", f"node{number}")
        assert ran("convert", "m.yaml", "--store", address, *part) == Exit.DONE
        assert [*contents(home / f"node{number}")] == [".staging/.turn"]  # nothing is left on a node
    assert Remote.at(address).manifest("m", "hf") is None  # nothing is visible before all is there
    assert ran("assemble", "m.yaml", "--store", address, "--out", "last") == Exit.DONE
    assert pulled(address, home / "pulled") == contents(home / "whole" / "m")
    place = Remote.at(address).place
    assert not place.sizes(f"{place.root}/.parts")


def test_a_conversion_is_sent_and_found_there(
    home: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("convert", "m.yaml", "--only", "gguf-F16", "--store", address)
    assert ran(*words, "--out", "one") == Exit.DONE
    assert ran("publish", "m.yaml", "--store", address, "--out", "two") == Exit.FAILED  # not verified
    assert contents(home / "two" / "m") == contents(home / "one" / "m")
    assert app.run([*words, "--out", "three", "--offline"]) == Exit.DONE
    assert "up to date" in capsys.readouterr().out
    assert not (home / "three" / "m").exists()

    remote = Remote.at(address)
    found = remote.manifest("m", "gguf-F16")
    assert found
    path = f"{remote.prefix('m', 'gguf-F16', found[1].key)}/{found[1].files[-1].path}"
    data = remote.place.files.cat_file(path)
    remote.place.files.pipe_file(path, data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(Failure, match="not what its manifest says"):
        remote.pull(Store(home / "four"), "m", "gguf-F16")
    assert not (home / "four" / "m").exists()
    remote.place.files.rm(path)
    assert ran(*words, "--out", "one") == Exit.DONE  # sends what the store lacks
    assert remote.place.files.cat_file(path) == data


@pytest.mark.usefixtures("home")
def test_a_folder_is_no_store(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("convert", "m.yaml", "--store", "shared") == Exit.USAGE
    assert "a folder that all machines see is --out" in capsys.readouterr().err
    assert ran("convert", "m.yaml", "--store", "s3://me:secret@bucket/x") == Exit.USAGE
    assert "secret" not in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("home")
def test_work_that_was_given_up_is_swept(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ran("convert", "m.yaml", "--only", "gguf-F16", "--store", address) == Exit.DONE
    assert ran("convert", "m.yaml", "--only", "hf", "--store", address, "--part", "1/2") == Exit.DONE
    place = Remote.at(address).place
    place.put(f"{place.root}/m/gguf-F16/{'0' * 16}/of-another-key", [b"x"], 1)
    before = place.sizes(place.root)
    assert app.run(["clean", "--store", address]) == Exit.DONE
    assert place.sizes(place.root) == before  # a day has not passed
    monkeypatch.setattr("convert.store.remote.ABANDONED_S", -1)
    assert app.run(["clean", "--store", address, "--dry-run"]) == Exit.DONE
    assert place.sizes(place.root) == before
    assert app.run(["clean", "--store", address]) == Exit.DONE
    assert "no manifest names it" in capsys.readouterr().out
    left = place.sizes(place.root)
    assert left
    assert all(name.startswith("m/gguf-F16/") and "of-another-key" not in name for name in left)

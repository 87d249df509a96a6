"""Bad input to the command: a line, a hint, the right exit code, and what was there stays."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.cli import app
from tests import tiny

if TYPE_CHECKING:
    from collections.abc import Callable

    Check = Callable[..., None]

COMMAND = (sys.executable, "-m", "convert.cli")
TARGETS = "targets:\n  gguf: {quants: [Q8_0, Q4_K_M]}\n"
# The vocabulary of bytes alone: 256 ranks, Qwen's own special tokens behind them.
BYTES_ONLY = "".join(f"{base64.b64encode(bytes([n])).decode()} {n}\n" for n in range(256))


def make_model(folder: Path, **changes: object) -> Path:
    tiny.make(folder, tiny.Recipe("qwen", {"num_hidden_layers": 2, **changes}, shards=2))
    (folder / "qwen.tiktoken").write_text(BYTES_ONLY)
    (folder / "generation_config.json").write_text(json.dumps({"chat_format": "chatml"}))
    return folder


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("sound") / "model")


@pytest.fixture(scope="module")
def converted(sound: Path) -> Path:
    """A folder with a model, a recipe, and the artifacts of a sound conversion by the real command."""
    (sound.parent / "recipe.yaml").write_text(f"model: ./model\n{TARGETS}")
    assert run(sound.parent).returncode == 0
    return sound.parent


@pytest.fixture
def place(converted: Path, tmp_path: Path) -> Path:
    """The same for a test alone."""
    return shutil.copytree(converted, tmp_path, dirs_exist_ok=True)


def environment() -> dict[str, str]:
    """The test's own, with the project at hand from any folder."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def run(place: Path, *more: str) -> subprocess.CompletedProcess[str]:
    line = [*COMMAND, "--quiet", "convert", "recipe.yaml", "--out", "artifacts", *more]
    return subprocess.run(line, cwd=place, capture_output=True, text=True, env=environment(), check=False)


@pytest.fixture
def check_said(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """Convert in this process, which is as good and starts at once."""

    def check(code: int, said: str, *more: str, out: str = "artifacts") -> None:
        monkeypatch.chdir(place)
        found = app.run(["--quiet", "convert", "recipe.yaml", "--out", out, *more])
        check_lines(found, capsys.readouterr().err, code, said)

    return check


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def first_shard(model: Path) -> Path:
    return model / "model-00001-of-00002.safetensors"


def truncate(model: Path) -> None:
    os.truncate(first_shard(model), first_shard(model).stat().st_size - 1000)


def flip_header(model: Path) -> None:
    data = bytearray(first_shard(model).read_bytes())
    data[9] ^= 0xFF
    first_shard(model).write_bytes(data)


def remove_shard(model: Path) -> None:
    first_shard(model).unlink()


def change_config(model: Path, **changes: object) -> None:
    path = model / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lie_about_layers(model: Path) -> None:
    change_config(model, num_hidden_layers=3)


def lie_about_width(model: Path) -> None:
    change_config(model, intermediate_size=2 * 384)


def become_unknown(model: Path) -> None:
    change_config(model, model_type="mamba")


def lose_config(model: Path) -> None:
    (model / "config.json").unlink()


def damage_vocabulary(model: Path) -> None:
    (model / "qwen.tiktoken").write_text("not base64 at all\n")


def lose_vocabulary(model: Path) -> None:
    (model / "qwen.tiktoken").unlink()


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a truncated shard": (truncate, "model-00001-of-00002.safetensors"),
    "a flipped header byte": (flip_header, "model-00001-of-00002.safetensors"),
    "a missing shard": (remove_shard, "model-00001-of-00002.safetensors"),
    "a config that lies about layers": (lie_about_layers, "missing from the checkpoint"),
    "a tensor of the wrong shape": (lie_about_width, "config.json makes it"),
    "an unknown architecture": (become_unknown, "mamba"),
    "no config": (lose_config, "config.json"),
    "a damaged vocabulary": (damage_vocabulary, "qwen.tiktoken"),
    "no vocabulary": (lose_vocabulary, "tokenizer"),
}


def check_lines(found: int, written: str, code: int, said: str) -> None:
    assert found == code, written
    lines = written.splitlines()
    assert len(lines) == 2, written
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert lines[1].startswith("hint:  ")


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_line_and_changes_nothing(damage: str, place: Path, check_said: Check) -> None:
    before = contents(place / "artifacts")
    spoil, said = DAMAGES[damage]
    spoil(place / "model")
    check_said(1, said)
    assert contents(place / "artifacts") == before


def test_an_unknown_key_names_its_line(place: Path) -> None:
    before = contents(place / "artifacts")
    (place / "recipe.yaml").write_text(f"model: ./model\ntarget: all\n{TARGETS}")
    done = run(place)
    check_lines(done.returncode, done.stderr, 2, "recipe.yaml:2: target")
    assert contents(place / "artifacts") == before


def test_an_unknown_target_of_only(check_said: Check) -> None:
    check_said(2, "--only onnx", "--only", "onnx")


def test_a_disk_that_fills(place: Path) -> None:
    """A limit on file sizes stands in for a full disk: writes fail in the middle of a file."""
    before = contents(place / "artifacts")
    (place / "recipe.yaml").write_text("model: ./model\ntargets:\n  gguf: {quants: [F32]}\n")
    script = (
        "import resource, runpy, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "sys.argv = ['modelwright', '--quiet', 'convert', 'recipe.yaml', '--out', 'artifacts']\n"
        "runpy.run_module('convert.cli', run_name='__main__')\n"
    )
    line = [sys.executable, "-c", script]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, env=environment(), check=False)
    check_lines(done.returncode, done.stderr, 1, "artifacts")
    assert contents(place / "artifacts") == before


def test_a_folder_that_cannot_be_written(check_said: Check) -> None:
    # Nobody makes folders in /proc, root neither.
    check_said(1, "/proc/artifacts", out="/proc/artifacts")


def test_out_is_a_file(place: Path, check_said: Check) -> None:
    (place / "file").write_text("mine")
    check_said(2, "file", out="file")
    assert (place / "file").read_text() == "mine"


def on_disk_bytes(folder: Path) -> int:
    """What was written so far; files are as long as they will be from the start."""
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*.gguf"))


@pytest.mark.parametrize(
    "written_bytes", [*(pytest.param(each, marks=pytest.mark.slow) for each in (0, 1)), 1 << 20]
)
def test_an_interrupt_leaves_what_stood(written_bytes: int, tmp_path: Path) -> None:
    sizes = {"num_hidden_layers": 4, "hidden_size": 1024, "kv_channels": 256, "intermediate_size": 6144}
    make_model(tmp_path / "model", **sizes)
    (tmp_path / "recipe.yaml").write_text("model: ./model\ntargets:\n  gguf: {quants: [Q2_K, IQ4_XS]}\n")
    line = [*COMMAND, "--quiet", "convert", "recipe.yaml", "--out", "artifacts"]
    with subprocess.Popen(
        line, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        # Not after a time: on a busy machine the interpreter would still be starting.
        staging, deadline_s = tmp_path / "artifacts" / ".staging", time.monotonic() + 60
        while not staging.is_dir() or on_disk_bytes(staging) < written_bytes:
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert not list((tmp_path / "artifacts").rglob("*.gguf"))


def test_a_second_conversion_does_nothing_and_says_so(place: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (place / "artifacts").rglob("*")}
    line = [*COMMAND, "convert", "recipe.yaml", "--out", "artifacts"]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, env=environment(), check=True)
    assert "everything is up to date" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in (place / "artifacts").rglob("*")} == before


def test_the_bytes_do_not_depend_on_where_the_model_lies(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(place / "model", elsewhere / "another name")
    (elsewhere / "recipe.yaml").write_text(f"model: ./another name\n{TARGETS}")
    assert run(elsewhere).returncode == 0
    ours, theirs = (
        {name: data for name, data in contents(folder / "artifacts").items() if name.endswith(".gguf")}
        for folder in (place, elsewhere)
    )
    assert ours == theirs
    assert len(ours) == 2

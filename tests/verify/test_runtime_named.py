"""A runtime is chosen by name, by file, or as the preferred of those that suit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from convert.cli import app
from convert.errors import Exit, Failure
from tests.docs.walkthrough import walk
from tests.verify import planting
from verify import runtimes
from verify.report import read
from verify.runtimes import choose_runtime, runtimes_for

if TYPE_CHECKING:
    from verify.report import ArtifactResult

RECIPE = """\
model: source
targets: {gguf: {quants: [F16]}}
verify: {scenarios: [pack.yaml], tokens: 256, gates: {smoke_drop: null, top1: 0.8}}
"""
# What a person brings: everything is in this one file.
BROUGHT = walk("A runtime").files["mine/brought.py"]
PLANTED = """\
FORMATS = ("gguf", "zip")
PREFERENCE = {preference}


def suits(folder):
    return any(folder.glob("*.gguf"))
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe and its artifact, and a runtime in a folder of its own."""
    planting.make_source(tmp_path / "source")
    planting.write_pack(tmp_path / "pack.yaml")
    (tmp_path / "m.yaml").write_text(RECIPE, "utf-8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "brought.py").write_text(BROUGHT, "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert app.run(["convert", "m.yaml", "--quiet"]) == Exit.DONE
    return tmp_path


def verified(*words: str) -> ArtifactResult:
    assert app.run(["verify", *words, "--quiet"]) == Exit.DONE
    return read(Path("artifacts/m/report.json")).artifacts[0]


@pytest.mark.usefixtures("home")
@pytest.mark.slow  # a whole verification
def test_a_file_is_a_runtime_from_the_command_line() -> None:
    artifact = verified("m.yaml", "--runtime", "mine/brought.py")
    assert artifact.opened is not None
    assert (artifact.opened.runtime, artifact.opened.notes) == ("brought", {"from": "a file"})
    assert artifact.other_runtimes == ("llama_cpp", "openvino_genai")
    assert artifact.speed is not None
    (opens,) = [check for check in artifact.checks if check.name == "opens"]
    assert opens.why == "brought opens it, and so could llama_cpp or openvino_genai"


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_recipe_names_a_runtime_for_a_format(home: Path) -> None:
    named = RECIPE.replace("tokens: 256,", "tokens: 256, runtime: {gguf: mine/brought.py},")
    (home / "m.yaml").write_text(named, "utf-8")
    artifact = verified("m.yaml")
    assert artifact.opened is not None
    assert artifact.opened.runtime == "brought"
    report = json.loads(Path("artifacts/m/report.json").read_text("utf-8"))
    assert report["recipe_sha256"]
    verified("m.yaml", "--runtime", "llama_cpp")
    assert read(Path("artifacts/m/report.json")).recipe_sha256 is None  # not what the recipe asks


@pytest.mark.parametrize(
    ("runtime", "said"),
    [
        ("nonesuch", "there is no runtime called 'nonesuch'"),
        ("none.py", "none.py: no such runtime file"),
        ("_llama", "there is no runtime called '_llama'"),
    ],
)
def test_an_unknown_runtime_is_refused_before_anything_is_opened(
    runtime: str, said: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for what in ("m.yaml", "artifacts/m/gguf-F16"):
        words = [what, "--runtime", runtime] + (["--source", "source"] if "/" in what else [])
        assert app.run(["verify", *words]) == Exit.USAGE
        assert said in capsys.readouterr().err
    (home / "m.yaml").write_text(RECIPE.replace("tokens: 256", f"tokens: 256, runtime: {runtime}"), "utf-8")
    assert app.run(["verify", "m.yaml"]) == Exit.USAGE


def test_of_several_that_suit_the_preferred_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "__path__", [*runtimes.__path__, str(tmp_path / "more")])
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "a_eager.py").write_text(PLANTED.format(preference=1), "utf-8")
    (tmp_path / "more" / "a_modest.py").write_text(PLANTED.format(preference=-1), "utf-8")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "m.gguf").touch()
    assert runtimes_for(tmp_path / "model") == ("a_eager", "llama_cpp", "a_modest", "openvino_genai")
    assert runtimes_for("anywhere", "gguf") == ("a_eager", "llama_cpp", "a_modest", "openvino_genai")
    assert choose_runtime("anywhere", "gguf", None) == (
        "a_eager",
        ("llama_cpp", "a_modest", "openvino_genai"),
    )
    assert choose_runtime("anywhere", "gguf", "llama_cpp") == (
        "llama_cpp",
        ("a_eager", "a_modest", "openvino_genai"),
    )
    assert choose_runtime("anywhere", "zip", None) == ("a_eager", ("a_modest",))


def test_a_manifest_s_format_decides_and_nothing_else_is_tried(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").touch()
    assert runtimes_for(tmp_path) == ("llama_cpp", "openvino_genai")
    with pytest.raises(Failure, match="no runtime opens bitsandbytes"):
        runtimes_for(tmp_path, "bitsandbytes")
    with pytest.raises(Failure, match="llama_cpp opens gguf, and this is onnx"):
        choose_runtime(tmp_path, "onnx", "llama_cpp")

"""What a command does before its work begins, counted: nothing twice, and nothing that it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.checkpoint import make_sparse
from tests.bench.startup import NARROW

# Counts what reads a vocabulary, and whose bytes are digested; says which of the heavy packages came along.
SCRIPT = """
import json, pathlib, sys
counts = {"vocabularies": 0, "encoders": 0, "digested": []}
import convert
from convert import plan_recipe, convert_recipe, load_recipe
import convert.source
fetching = sys.modules["convert.source.fetch"]  # whose name in the package is a function's

def digesting(path, expected, notes, watch, real=fetching.digest_file):
    known = notes.recall(path)
    if not (known and known.proves(expected)):
        counts["digested"].append(path.name)
    return real(path, expected, notes, watch)

fetching.digest_file = digesting
function = {"plan": plan_recipe, "convert": convert_recipe}[sys.argv[1]]
if sys.argv[2] == "counted":
    import tokenizers
    from convert.tokenizer import assembly, encoder, kept, pretokenizer
    def reading(*given, real=kept.load):
        counts["vocabularies"] += 1
        return real(*given)
    def opening(*given, real=encoder.open_encoder):
        counts["encoders"] += 1
        return real(*given)
    kept.load = reading
    for module in (assembly, encoder, pretokenizer):
        module.open_encoder = opening
function(load_recipe("r.yaml"), out=pathlib.Path("out"), offline=True)
counts["imported"] = sorted({name.partition(".")[0] for name in sys.modules})
counts["ours"] = sorted(name for name in sys.modules if name.startswith(("convert.", "verify.")))
print(json.dumps(counts))
"""
HEAVY = {
    *("torch", "transformers", "numba", "llama_cpp", "onnx", "onnxruntime", "gptqmodel", "huggingface_hub"),
    *("markdown_it", "matplotlib", "pyarrow", "httpx", "requests"),
}


def _run(folder: Path, function: str, how: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", SCRIPT, function, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=environment)
    counts: dict[str, Any] = json.loads(done.stdout)
    return counts


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Make a recipe of a model with a real vocabulary, and few weights."""
    make_sparse(tmp_path / "model", NARROW)
    for path in (tmp_path / "model").iterdir():
        os.utime(path, (1, 1))  # a digest of what was written just now is not kept
    (tmp_path / "r.yaml").write_text("model: model\ntargets: {gguf: {quants: [Q8_0, F16]}}\n", "utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_plan_reads_the_vocabulary_once_and_no_weights(model: Path) -> None:
    first, second = (_run(model, "plan", "counted") for _ in range(2))
    assert (first["vocabularies"], first["encoders"]) == (1, 1)
    assert (second["vocabularies"], second["encoders"]) == (0, 0)
    assert "model.safetensors" not in first["digested"]
    assert second["digested"] == []
    assert not HEAVY & set(first["imported"])


@pytest.mark.slow
def test_a_conversion_with_nothing_to_do_brings_nothing(model: Path) -> None:
    first = _run(model, "convert", "plain")
    assert first["digested"].count("model.safetensors") == 1
    second = _run(model, "convert", "plain")
    assert second["digested"] == []
    assert not (HEAVY | {"jinja2", "tokenizers"}) & set(second["imported"])
    needless = ("convert.publish", "convert.calibration", "convert.writer.engine", "verify.report")
    assert not [name for name in second["ours"] if name.startswith(needless)]
    (model / "model" / "model.safetensors").touch()
    assert _run(model, "convert", "plain")["digested"] == ["model.safetensors"]


@pytest.mark.slow
def test_a_plan_with_an_artifact_there_notices_other_weights(model: Path) -> None:
    _run(model, "convert", "plain")
    assert _run(model, "plan", "plain")["digested"] == []
    weights = model / "model" / "model.safetensors"
    with weights.open("r+b") as stream:
        stream.seek(-2, os.SEEK_END)
        stream.write(b"\x80\x3f")
    assert _run(model, "plan", "plain")["digested"] == ["model.safetensors"]

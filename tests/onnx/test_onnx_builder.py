"""Packed weights, scales and zero points are those of onnxruntime-genai's own builder, byte for byte."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from onnx.external_data_helper import load_external_data_for_model

from convert.formats.hf.companions import tokenizer_files
from convert.tokenizer import load
from tests import tiny
from tests.onnx import genai
from tests.tokenizer import vocabularies

if TYPE_CHECKING:
    from pathlib import Path

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    # Neither GPT-2 nor the original Qwen: the builder knows neither.
    **{name: (name, {}) for name in ("qwen2", "qwen3", "llama", "mistral", "phi3", "gemma")},
    "block 128": ("llama", {"block_size": 128}),
    "asymmetric": ("mistral", {"symmetric": False}),
    "int8": ("qwen2", {"precision": "int8"}),
    "int8 asymmetric": ("qwen3", {"precision": "int8", "symmetric": False, "block_size": 64}),
}


def weights(folder: Path) -> set[tuple[bytes, ...]]:
    """What every multiplication of the graph takes besides its rows."""
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    load_external_data_for_model(model, str(folder))
    stored = {tensor.name: tensor.raw_data for tensor in model.graph.initializer}
    return {
        tuple(stored[name] for name in node.input[1:4] if name)
        for node in model.graph.node
        if node.op_type == "MatMulNBits"
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_weights_are_the_builders(name: str, tmp_path: Path) -> None:
    model_type, said = CASES[name]
    plain = {"precision": "int4", "block_size": 32, "symmetric": True, "mixed": False}
    settings: dict[str, Any] = {**plain, **said}
    changes = {"original_max_position_embeddings": 256} if model_type == "phi3" else {}
    folder = tiny.make(tmp_path / "model", tiny.Recipe(model_type, changes))
    # Any tokenizer: it is only carried over.
    tokenizer = load(vocabularies.small_qwen_folder(), "qwen", {"model_type": "qwen"}, 1300)
    for file, content in tokenizer_files(tokenizer).items():
        (folder / file).write_bytes(content)
    command = [
        *(sys.executable, "-m", "onnxruntime_genai.models.builder", "-m", folder, "-i", folder),
        *("-o", tmp_path / "theirs", "-c", tmp_path / "cache", "-p", settings["precision"], "-e", "cpu"),
        *("--extra_options", f"block_size={settings['block_size']}"),
        f"is_symmetric={str(settings['symmetric']).lower()}",
    ]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-2000:]
    ours = weights(genai.convert_folder(folder, tmp_path / "ours", **settings))
    theirs = weights(tmp_path / "theirs")
    assert len(ours) == 4 * 5 + 1
    assert ours == theirs
